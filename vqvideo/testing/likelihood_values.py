"""Laws of the distribution at a position: enumerated probabilities and integrated densities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.likelihood_setup import (
    Build,
    build_likelihood,
    enumerate_values,
    make_position_parameters,
)

REFERENCE = "vqvideo.likelihoods.Likelihood"

NUM_SAMPLES = 4000  # samples per channel
NUM_CELLS = {1: 20_000, 2: 400}  # integration cells along each axis, by number of channels
TOLERANCES = {1: 1e-3, 2: 2e-2}  # of the integral with that many cells


def probabilities_sum_to_one(build: Build, rank: int, channels: int) -> None:
    """The probabilities of all values of a position sum to 1, for any parameters."""
    likelihood = build_likelihood(build, rank, channels).double()
    assert likelihood.is_discrete == (likelihood.num_values is not None), (
        "num_values must be the number of discrete values, or None for a density"
    )
    levels, x = enumerate_values(likelihood, rank, channels)
    assert torch.equal(likelihood.to_levels(x).flatten(1), levels), (
        "to_levels does not invert from_levels"
    )
    for scale in (0.5, 5.0):
        parameters = scale * make_position_parameters(likelihood, rank, channels)
        with torch.no_grad():
            log_prob = likelihood.log_prob(parameters.expand(len(x), *parameters.shape[1:]), x)
        total = log_prob.double().exp().sum().item()
        assert math.isclose(total, 1, abs_tol=1e-5), (
            f"the probabilities of all {len(x)} values of a position of {channels} channels sum "
            f"to {total}, not 1"
        )


def samples_follow_the_probabilities(build: Build, rank: int, channels: int) -> None:
    """Samples follow the probabilities of `log_prob`: the empirical distribution function of the
    channels of a position matches the exact one (Kolmogorov-Smirnov test).
    """
    likelihood, num_samples = (
        build_likelihood(build, rank, channels).double(),
        NUM_SAMPLES * channels,
    )
    parameters = make_position_parameters(likelihood, rank, channels)
    x = enumerate_values(likelihood, rank, channels)[1]
    with torch.no_grad():
        log_prob = likelihood.log_prob(parameters.expand(len(x), *parameters.shape[1:]), x).double()
        samples = likelihood.sample(parameters.expand(num_samples, *parameters.shape[1:]), seed=5)
    levels = likelihood.to_levels(samples).flatten(1)
    _assert_same_distribution(log_prob.exp(), levels, [likelihood.num_values or 0] * channels)


def a_density_integrates_to_one(build: Build, rank: int, channels: int) -> None:
    """The density of a position, of one or two channels, integrates to 1 over the real numbers, for
    any parameters. (If `log_prob` raises `ValueError` outside [-1, 1], the density is 0 there.)
    """
    likelihood = build_likelihood(build, rank, channels).double()
    assert not likelihood.is_discrete, "is_discrete must be False for a density"
    for scale in (0.3, 1.0):
        parameters = scale * make_position_parameters(likelihood, rank, channels)
        total = _IntegrationGrid(likelihood, parameters, rank, channels).probabilities.sum().item()
        assert math.isclose(total, 1, abs_tol=TOLERANCES[channels]), (
            f"the density of a position of {channels} channels integrates to {total:.4g}, not 1"
        )


def samples_follow_the_density(build: Build, rank: int, channels: int) -> None:
    """Samples follow the density of `log_prob`: the empirical distribution function of the channels
    of a position matches the integrated one within (-1, 1). (Samples outside are clipped.)
    """
    likelihood, num_samples = (
        build_likelihood(build, rank, channels).double(),
        NUM_SAMPLES * channels,
    )
    parameters = make_position_parameters(likelihood, rank, channels)
    cells = _IntegrationGrid(likelihood, parameters, rank, channels)
    with torch.no_grad():
        samples = likelihood.sample(parameters.expand(num_samples, *parameters.shape[1:]), seed=5)
    cell_indices = torch.bucketize(samples.flatten(1).double(), cells.edges[1:-1])
    inner = (cells.edges[1:] > -1) & (cells.edges[1:] < 1)
    _assert_same_distribution(
        cells.probabilities, cell_indices, [NUM_CELLS[channels]] * channels, inner
    )


def the_mode_is_the_peak_of_the_density(build: Build, rank: int, channels: int) -> None:
    """No data in [-1, 1] has a higher density than the mode."""
    likelihood = build_likelihood(build, rank, channels).double()
    for _ in range(3):
        parameters = make_position_parameters(likelihood, rank, channels)
        cells = _IntegrationGrid(likelihood, parameters, rank, channels)
        with torch.no_grad():
            mode = likelihood.mode(parameters)
            log_density = likelihood.log_prob(parameters, mode).item()
        best = int(cells.log_density.masked_fill(~cells.inside, -math.inf).argmax())
        assert log_density > cells.log_density[best] - 1e-3, (
            f"the mode {mode.flatten().tolist()} has a log-density of {log_density:.4f} nats, but "
            f"{cells.x[best].flatten().tolist()} has {cells.log_density[best].item():.4f}"
        )


class _IntegrationGrid:
    """A grid of cells over the real line or plane, finer near 0.

    Attributes:
        edges: `[n + 1]`, edges of the cells along each axis: u / (1 - u^2) for evenly spaced u.
        x: `[n^c, c, 1...]`, data at the center of each cell.
        inside: bool `[n^c]`, whether the center lies in [-1, 1].
        log_density: `[n^c]`, the log-density at the center; -inf where `log_prob` raises.
        probabilities: `[n^c]`, the probability of each cell.
    """

    def __init__(
        self, likelihood: Likelihood, parameters: Tensor, rank: int, channels: int
    ) -> None:
        u = torch.linspace(-1, 1, NUM_CELLS[channels] + 1, dtype=torch.float64)
        self.edges = u / (1 - u * u)
        middle = (u[1:] + u[:-1]) / 2
        centers = middle / (1 - middle * middle)
        widths = (1 + middle * middle) / (1 - middle * middle).square() * (u[1] - u[0])
        x = torch.cartesian_prod(*[centers] * channels).reshape(-1, channels)
        volumes = torch.cartesian_prod(*[widths] * channels).reshape(-1, channels).prod(dim=1)
        self.inside = (x.abs() <= 1).all(dim=1)
        self.x = x.reshape(-1, channels, *(1,) * rank)
        self.log_density = _compute_log_density(likelihood, parameters, self.x, self.inside)
        self.probabilities = self.log_density.exp() * volumes


@torch.no_grad()
def _compute_log_density(
    likelihood: Likelihood, parameters: Tensor, x: Tensor, inside: Tensor
) -> Tensor:
    expanded = parameters.expand(len(x), *parameters.shape[1:])
    try:
        return likelihood.log_prob(expanded, x).double()
    except ValueError:
        log_density = torch.full((len(x),), -math.inf, dtype=torch.float64)
        log_density[inside] = likelihood.log_prob(expanded[inside], x[inside]).double()
        return log_density


def _assert_same_distribution(
    probabilities: Tensor, cell_indices: Tensor, size: Sequence[int], compared: Tensor | None = None
) -> None:
    """Raise `AssertionError` if samples do not follow the probabilities of cells.

    Args:
        probabilities: `[prod(size)]`, the probability of each cell.
        cell_indices: `[n, c]`, the cell of each sample along each axis.
        size: number of cells along each axis.
        compared: bool, the cells to compare along each axis; None is all.
    """
    num_samples, channels = cell_indices.shape
    strides = torch.tensor([math.prod(size[axis + 1 :]) for axis in range(channels)])
    shares = (
        torch.bincount(cell_indices @ strides, minlength=len(probabilities)).double() / num_samples
    )
    functions = [probabilities.view(*size), shares.view(*size)]
    for axis in range(channels):
        functions = [each.cumsum(axis) for each in functions]
        if compared is not None:
            indices = compared.nonzero().flatten()
            functions = [each.index_select(axis, indices) for each in functions]
    distance = (functions[0] - functions[1]).abs().max().item()
    assert distance < 2.2 * channels / math.sqrt(num_samples), (  # p-value of about 1e-4
        f"samples do not follow log_prob: the distribution functions of {channels} channels "
        f"differ by {distance:.3f}"
    )
