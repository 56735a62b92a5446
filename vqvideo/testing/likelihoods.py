"""The laws of likelihoods."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.likelihoods.base import from_levels
from vqvideo.testing.grids import GRIDS

Build = Callable[..., Likelihood]

DRAWS = 4000  # samples that are counted
FAR = 40.0  # times as large as parameters usually are


def check_likelihood(build: Build) -> None:
    """All laws of a likelihood, on data of rank 1, 2 and 3.

    Args:
        build: called with `rank` and `channels` if it takes them, and nothing else. Make it small
            if it has a network.
    """
    for rank in GRIDS:
        _an_item_is_scored_by_itself(build, rank)
        _mode_and_sample_are_data(build, rank)
        _far_parameters_give_numbers(build, rank)
        _autocast_changes_little(build, rank)
    for channels in (1, 2):
        _probabilities_sum_to_one(build, channels)
        _samples_come_as_often_as_they_are_probable(build, channels)


def _an_item_is_scored_by_itself(build: Build, rank: int) -> None:
    likelihood, parameters, x = _case(build, rank)
    nats = likelihood.log_prob(parameters, x)
    assert nats.shape == (2,), f"log_prob must be [b], got {list(nats.shape)}"
    alone = likelihood.log_prob(parameters[1:], x[1:])
    assert torch.allclose(nats[1:], alone), "the likelihood of an item depends on its batch"


def _mode_and_sample_are_data(build: Build, rank: int) -> None:
    likelihood, parameters, x = _case(build, rank)
    for name, data in (
        ("mode", likelihood.mode(parameters)),
        ("sample", likelihood.sample(parameters, seed=3)),
    ):
        assert data.shape == x.shape, f"{name} must be {list(x.shape)}, got {list(data.shape)}"
        assert data.abs().max() <= 1, f"{name} leaves [-1, 1]"
        if likelihood.num_values is not None:
            levels = (data.double() + 1) / 2 * (likelihood.num_values - 1)
            assert (levels - levels.round()).abs().max() < 1e-3, (
                f"{name} gives other values than the {likelihood.num_values} that are scored"
            )
    best = likelihood.log_prob(parameters, likelihood.mode(parameters))
    assert (best > likelihood.log_prob(parameters, x)).all(), (
        "random data is more probable than the mode"
    )
    again = likelihood.sample(parameters, seed=3)
    assert torch.equal(likelihood.sample(parameters, seed=3), again), "a seed does not repeat"
    other = likelihood.sample(parameters, seed=4)
    assert not torch.equal(other, again), "every seed gives the same sample"


def _far_parameters_give_numbers(build: Build, rank: int) -> None:
    """At both ends of the range and in the middle: finite, and a gradient that is."""
    likelihood, parameters, x = _case(build, rank)
    for value in (-1.0, 0.0, 1.0):
        far = (parameters * FAR).requires_grad_()
        nats = likelihood.log_prob(far, torch.full_like(x, value)).sum()
        gradient = torch.autograd.grad(nats, far)[0]
        assert nats.isfinite() and gradient.isfinite().all(), (
            f"data at {value} under parameters far off gives a log_prob of {nats.item()} or a "
            f"gradient that is not finite"
        )


def _autocast_changes_little(build: Build, rank: int) -> None:
    likelihood, parameters, x = _case(build, rank)
    nats = likelihood.log_prob(parameters, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = likelihood.log_prob(parameters, x)
    assert rounded.dtype == torch.float32, f"under autocast log_prob is {rounded.dtype}"
    assert torch.allclose(nats, rounded, rtol=0.02), "autocast changes log_prob by over 2 %"


def _probabilities_sum_to_one(build: Build, channels: int) -> None:
    """Over all values of one position of so many channels, under a few draws of parameters."""
    likelihood = _built(build, 1, channels).double()
    assert likelihood.is_density == (likelihood.num_values is None), (
        "num_values must say over how many values there are probabilities, None for a density"
    )
    if likelihood.num_values is None:
        return
    every = itertools.product(range(likelihood.num_values), repeat=channels)
    x = from_levels(torch.tensor(list(every)), likelihood.num_values)[..., None]
    for scale in (0.5, 5.0):
        parameters = scale * torch.randn(1, likelihood.num_parameters(channels), 1).double()
        with torch.no_grad():
            nats = likelihood.log_prob(parameters.expand(len(x), -1, -1), x)
        total = nats.double().exp().sum().item()
        assert math.isclose(total, 1, abs_tol=1e-5), (
            f"the probabilities of all {len(x)} values of a position of {channels} channels come "
            f"to {total}, not 1"
        )


def _samples_come_as_often_as_they_are_probable(build: Build, channels: int) -> None:
    """The joint distribution function of the channels of a position, of samples beside that of
    `log_prob` (as Kolmogorov and Smirnov compare them).
    """
    likelihood, number = _built(build, 1, channels).double(), DRAWS * channels
    if likelihood.num_values is None:
        return
    parameters = torch.randn(1, likelihood.num_parameters(channels), 1).double()
    every = torch.tensor(list(itertools.product(range(likelihood.num_values), repeat=channels)))
    x = from_levels(every, likelihood.num_values)[..., None]
    with torch.no_grad():
        nats = likelihood.log_prob(parameters.expand(len(x), -1, -1), x).double()
        drawn = likelihood.sample(parameters.expand(number, -1, -1), seed=5)[..., 0]
    levels = ((drawn + 1) / 2 * (likelihood.num_values - 1)).round().long()
    places = likelihood.num_values ** torch.arange(channels).flip(0)
    counted = torch.bincount(levels @ places, minlength=len(every)) / number
    functions = [nats.exp(), counted.double()]
    for channel in range(channels):
        size = [likelihood.num_values] * channels
        functions = [each.view(size).cumsum(channel).flatten() for each in functions]
    apart = (functions[0] - functions[1]).abs().max().item()
    assert apart < 2.2 * channels / math.sqrt(number), (  # by chance in one case of ten thousand
        f"samples are not distributed as log_prob says: the distribution functions of {channels} "
        f"channels are {apart:.3f} apart"
    )


def _case(build: Build, rank: int) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood, parameters and data of three channels."""
    likelihood = _built(build, rank, 3)
    shape = (2, 3, *GRIDS[rank])
    if likelihood.num_values is None:
        x = torch.rand(shape) * 2 - 1
    else:
        x = from_levels(torch.randint(likelihood.num_values, shape), likelihood.num_values)
    return likelihood, torch.randn(2, likelihood.num_parameters(3), *GRIDS[rank]), x


def _built(build: Build, rank: int, channels: int) -> Likelihood:
    torch.manual_seed(rank)
    taken = inspect.signature(build).parameters
    given = {"rank": rank, "channels": channels}
    told = {name: value for name, value in given.items() if name in taken}
    return functools.partial(build, **told)().eval()
