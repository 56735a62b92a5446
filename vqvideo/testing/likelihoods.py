"""The laws of likelihoods."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import GRIDS


def check_likelihood(build: Callable[[], Likelihood]) -> None:
    """All laws of a likelihood, on data of rank 1, 2 and 3.

    Args:
        build: called without arguments.
    """
    for rank, grid in GRIDS.items():
        torch.manual_seed(rank)
        likelihood = build().eval()
        x = torch.rand(2, 3, *grid) * 2 - 1
        parameters = torch.randn(2, likelihood.num_parameters(3), *grid)
        nats = likelihood.log_prob(parameters, x)
        assert nats.shape == (2,), f"log_prob must be [b], got {list(nats.shape)}"
        alone = likelihood.log_prob(parameters[1:], x[1:])
        assert torch.allclose(nats[1:], alone), "the likelihood of an item depends on its batch"
        for name, data in (
            ("mode", likelihood.mode(parameters)),
            ("sample", likelihood.sample(parameters, seed=3)),
        ):
            assert data.shape == x.shape, f"{name} must be {list(x.shape)}, got {list(data.shape)}"
            assert data.abs().max() <= 1, f"{name} leaves [-1, 1]"
        best = likelihood.log_prob(parameters, likelihood.mode(parameters))
        assert (best > nats).all(), "random data is more probable than the mode"
        again = likelihood.sample(parameters, seed=3)
        assert torch.equal(likelihood.sample(parameters, seed=3), again), "a seed does not repeat"
