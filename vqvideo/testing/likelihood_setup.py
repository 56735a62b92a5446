"""The likelihoods that laws are checked on, with parameters and data."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import GRIDS

Build = Callable[..., Likelihood]


def bind_sizes(build: Build, rank: int, channels: int) -> Build:
    """Bind rank and channels to a builder, as far as it has such parameters."""
    parameters = inspect.signature(build).parameters
    kwargs = {"rank": rank, "channels": channels}
    return functools.partial(build, **{k: v for k, v in kwargs.items() if k in parameters})


def build_likelihood(build: Build, rank: int, channels: int, seed: int = 0) -> Likelihood:
    """Build a likelihood in evaluation mode."""
    torch.manual_seed(rank + 10 * seed)
    return bind_sizes(build, rank, channels)().eval()


def build_case(build: Build, rank: int) -> tuple[Likelihood, Tensor, Tensor]:
    """Return a likelihood, with random parameters and data of three channels."""
    likelihood = build_likelihood(build, rank, 3)
    shape = (2, 3, *GRIDS[rank])
    if likelihood.num_values is None:
        x = torch.rand(shape) * 2 - 1
    else:
        x = likelihood.from_levels(torch.randint(likelihood.num_values, shape))
    return likelihood, torch.randn(2, likelihood.num_parameters(3), *GRIDS[rank]), x


def enumerate_values(likelihood: Likelihood, rank: int, channels: int) -> tuple[Tensor, Tensor]:
    """Return all levels `[n, c]` of the channels of a position, and their data `[n, c, 1...]`."""
    assert likelihood.num_values is not None, "a density has no finite set of values"
    levels = torch.tensor(list(itertools.product(range(likelihood.num_values), repeat=channels)))
    return levels, likelihood.from_levels(levels).reshape(-1, channels, *(1,) * rank)


def make_position_parameters(likelihood: Likelihood, rank: int, channels: int) -> Tensor:
    """Return random parameters of a single position, in float64."""
    num_parameters = likelihood.num_parameters(channels)
    return torch.randn(1, num_parameters, *(1,) * rank, dtype=torch.float64)
