"""Laws of probabilities, of all values of a position, and of a density, integrated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.likelihood_setup import Build, built, every_value, of_one_position

READ = "vqvideo.likelihoods.Likelihood"

DRAWS = 4000  # samples that are counted
CELLS = {1: 20_000, 2: 400}  # along each axis, of one or two channels
CLOSE = {1: 1e-3, 2: 2e-2}  # to 1, what so many cells add up to


def probabilities_sum_to_one(build: Build, rank: int, channels: int) -> None:
    """The probabilities of all values of a position add up to 1, whatever the parameters."""
    likelihood = built(build, rank, channels).double()
    assert likelihood.gives_bits == (likelihood.num_values is not None), (
        "num_values must say over how many values there are probabilities, None for a density"
    )
    every, x = every_value(likelihood, rank, channels)
    assert torch.equal(likelihood.to_levels(x).flatten(1), every), (
        "to_levels gives a value of from_levels another number than its own"
    )
    for scale in (0.5, 5.0):
        parameters = scale * of_one_position(likelihood, rank, channels)
        with torch.no_grad():
            nats = likelihood.log_prob(parameters.expand(len(x), *parameters.shape[1:]), x)
        total = nats.double().exp().sum().item()
        assert math.isclose(total, 1, abs_tol=1e-5), (
            f"the probabilities of all {len(x)} values of a position of {channels} channels come "
            f"to {total}, not 1"
        )


def samples_come_as_often_as_they_are_probable(build: Build, rank: int, channels: int) -> None:
    """Samples are distributed as `log_prob` says: the joint distribution function of the channels
    of a position, counted and summed (as Kolmogorov and Smirnov compare them).
    """
    likelihood, number = built(build, rank, channels).double(), DRAWS * channels
    parameters = of_one_position(likelihood, rank, channels)
    x = every_value(likelihood, rank, channels)[1]
    with torch.no_grad():
        nats = likelihood.log_prob(parameters.expand(len(x), *parameters.shape[1:]), x).double()
        drawn = likelihood.sample(parameters.expand(number, *parameters.shape[1:]), seed=5)
    levels = likelihood.to_levels(drawn).flatten(1)
    _require_alike(nats.exp(), levels, [likelihood.num_values or 0] * channels)


def a_density_integrates_to_one(build: Build, rank: int, channels: int) -> None:
    """The density of a position, of one or two channels, integrates to 1 over all numbers, whatever
    the parameters. (One that raises `ValueError` outside of [-1, 1] has nothing there.)
    """
    likelihood = built(build, rank, channels).double()
    assert not likelihood.gives_bits, "a density gives no bits, so gives_bits must be false"
    for scale in (0.3, 1.0):
        parameters = scale * of_one_position(likelihood, rank, channels)
        total = _Cells(likelihood, parameters, rank, channels).shares.sum().item()
        assert math.isclose(total, 1, abs_tol=CLOSE[channels]), (
            f"the density of a position of {channels} channels integrates to {total:.4g}, not 1"
        )


def samples_are_spread_as_the_density(build: Build, rank: int, channels: int) -> None:
    """Samples are distributed as `log_prob` says: the joint distribution function of the channels
    of a position within (-1, 1), counted and integrated. (What lies outside they show as -1 or 1.)
    """
    likelihood, number = built(build, rank, channels).double(), DRAWS * channels
    parameters = of_one_position(likelihood, rank, channels)
    cells = _Cells(likelihood, parameters, rank, channels)
    with torch.no_grad():
        drawn = likelihood.sample(parameters.expand(number, *parameters.shape[1:]), seed=5)
    places = torch.bucketize(drawn.flatten(1).double(), cells.edges[1:-1])
    inner = (cells.edges[1:] > -1) & (cells.edges[1:] < 1)
    _require_alike(cells.shares, places, [CELLS[channels]] * channels, inner)


def the_mode_is_the_peak_of_the_density(build: Build, rank: int, channels: int) -> None:
    """No data in [-1, 1] is more probable than the mode."""
    likelihood = built(build, rank, channels).double()
    for _ in range(3):
        parameters = of_one_position(likelihood, rank, channels)
        cells = _Cells(likelihood, parameters, rank, channels)
        with torch.no_grad():
            mode = likelihood.mode(parameters)
            nats = likelihood.log_prob(parameters, mode).item()
        best = int(cells.nats.masked_fill(~cells.inside, -math.inf).argmax())
        assert nats > cells.nats[best] - 1e-3, (
            f"the mode {mode.flatten().tolist()} has {nats:.4f} nats, "
            f"{cells.x[best].flatten().tolist()} has {cells.nats[best].item():.4f}"
        )


class _Cells:
    """All numbers, or pairs of them, in cells that are the finer the nearer they are to 0.

    Attributes:
        edges: `[n + 1]`, of the cells along each axis: u / (1 - u^2) for even steps of u.
        x: `[n^c, c, 1...]`, data in the middle of each cell.
        inside: `[n^c]`, whether it lies in [-1, 1].
        nats: `[n^c]`, the log-density there; -inf where it is refused.
        shares: `[n^c]`, the probability of each cell.
    """

    def __init__(
        self, likelihood: Likelihood, parameters: Tensor, rank: int, channels: int
    ) -> None:
        u = torch.linspace(-1, 1, CELLS[channels] + 1, dtype=torch.float64)
        self.edges = u / (1 - u * u)
        middle = (u[1:] + u[:-1]) / 2
        centres = middle / (1 - middle * middle)
        widths = (1 + middle * middle) / (1 - middle * middle).square() * (u[1] - u[0])
        x = torch.cartesian_prod(*[centres] * channels).reshape(-1, channels)
        volumes = torch.cartesian_prod(*[widths] * channels).reshape(-1, channels).prod(dim=1)
        self.inside = (x.abs() <= 1).all(dim=1)
        self.x = x.reshape(-1, channels, *(1,) * rank)
        self.nats = _log_density(likelihood, parameters, self.x, self.inside)
        self.shares = self.nats.exp() * volumes


@torch.no_grad()
def _log_density(likelihood: Likelihood, parameters: Tensor, x: Tensor, inside: Tensor) -> Tensor:
    every = parameters.expand(len(x), *parameters.shape[1:])
    try:
        return likelihood.log_prob(every, x).double()
    except ValueError:
        nats = torch.full((len(x),), -math.inf, dtype=torch.float64)
        nats[inside] = likelihood.log_prob(every[inside], x[inside]).double()
        return nats


def _require_alike(
    shares: Tensor, places: Tensor, size: Sequence[int], compared: Tensor | None = None
) -> None:
    """Raise `AssertionError` unless cells of a line or a square are as probable as they are often.

    Args:
        shares: the probabilities `[prod(size)]`.
        places: `[number, c]`, in which cell along each axis each of a number of samples lies.
        size: cells along each axis.
        compared: which cells along each axis; None is all.
    """
    number, channels = places.shape
    strides = torch.tensor([math.prod(size[axis + 1 :]) for axis in range(channels)])
    counted = torch.bincount(places @ strides, minlength=len(shares)).double() / number
    functions = [shares.view(*size), counted.view(*size)]
    for axis in range(channels):
        functions = [each.cumsum(axis) for each in functions]
        if compared is not None:
            where = compared.nonzero().flatten()
            functions = [each.index_select(axis, where) for each in functions]
    apart = (functions[0] - functions[1]).abs().max().item()
    assert apart < 2.2 * channels / math.sqrt(number), (  # by chance in one case of ten thousand
        f"samples are not distributed as log_prob says: the distribution functions of {channels} "
        f"channels are {apart:.3f} apart"
    )
