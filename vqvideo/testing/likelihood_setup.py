"""The likelihoods that laws are checked on, with parameters and data for them."""

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


def made_for(build: Build, rank: int, channels: int) -> Build:
    """The builder told what it takes of rank and channels, to be called with nothing else."""
    taken = inspect.signature(build).parameters
    given = {"rank": rank, "channels": channels}
    return functools.partial(build, **{name: n for name, n in given.items() if name in taken})


def built(build: Build, rank: int, channels: int, seed: int = 0) -> Likelihood:
    """A likelihood in evaluation mode."""
    torch.manual_seed(rank + 10 * seed)
    return made_for(build, rank, channels)().eval()


def case_of(build: Build, rank: int) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood, parameters and data of three channels."""
    likelihood = built(build, rank, 3)
    shape = (2, 3, *GRIDS[rank])
    if likelihood.num_values is None:
        x = torch.rand(shape) * 2 - 1
    else:
        x = likelihood.from_levels(torch.randint(likelihood.num_values, shape))
    return likelihood, torch.randn(2, likelihood.num_parameters(3), *GRIDS[rank]), x


def every_value(likelihood: Likelihood, rank: int, channels: int) -> tuple[Tensor, Tensor]:
    """All numbers `[n, c]` that the channels of a position can have, and the data `[n, c, 1...]`
    that they stand for.
    """
    assert likelihood.num_values is not None, "a density takes all values"
    every = torch.tensor(list(itertools.product(range(likelihood.num_values), repeat=channels)))
    return every, likelihood.from_levels(every).reshape(-1, channels, *(1,) * rank)


def of_one_position(likelihood: Likelihood, rank: int, channels: int) -> Tensor:
    """Random parameters of a single position, in float64."""
    number = likelihood.num_parameters(channels)
    return torch.randn(1, number, *(1,) * rank, dtype=torch.float64)
