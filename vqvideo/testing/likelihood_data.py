"""Laws of the `log_prob`, the mode and the samples of a likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import assert_equal, format_mismatch
from vqvideo.testing.likelihood_setup import Build, build_case, build_likelihood

REFERENCE = "vqvideo.likelihoods.Likelihood"

LARGE_SCALE = 40.0  # relative to typical parameters
LOW_TEMPERATURE = 0.1


def items_are_scored_independently(build: Build, rank: int) -> None:
    """`log_prob` is `[b]`, and its value for an item does not depend on the rest of the batch."""
    likelihood, parameters, x = build_case(build, rank)
    batched = likelihood.log_prob(parameters, x)
    assert batched.shape == (2,), f"log_prob must be [b], got {list(batched.shape)}"
    single = likelihood.log_prob(parameters[1:], x[1:])
    assert torch.allclose(batched[1:], single), (
        f"rank {rank}: the likelihood of an item depends on its batch: "
        f"{batched[1].item():.4f} nats in it, {single[0].item():.4f} alone"
    )


def the_mode_is_data(build: Build, rank: int) -> None:
    """The mode is data in [-1, 1], has values of the likelihood's levels if it is discrete, and is
    more probable than noise.
    """
    likelihood, parameters, x = build_case(build, rank)
    mode = likelihood.mode(parameters)
    _assert_is_data("mode", mode, likelihood, x)
    best, noise = (likelihood.log_prob(parameters, each) for each in (mode, x))
    assert (best > noise).all(), (
        f"rank {rank}: random data is more probable than the mode: {noise.tolist()} nats against "
        f"{best.tolist()} nats"
    )


def samples_are_data(build: Build, rank: int) -> None:
    """Samples are data in [-1, 1], have values of the likelihood's levels if it is discrete, and
    depend on the seed only.
    """
    likelihood, parameters, x = build_case(build, rank)
    sample = likelihood.sample(parameters, seed=3)
    _assert_is_data("sample", sample, likelihood, x)
    assert torch.equal(likelihood.sample(parameters, seed=3), sample), (
        "the same seed gives another sample"
    )
    other = likelihood.sample(parameters, seed=4)
    assert not torch.equal(other, sample), "every seed gives the same sample"


def an_unnormalized_likelihood_refuses_to_sample(build: Build, rank: int) -> None:
    """`sample` raises `ValueError` if the likelihood is not normalized."""
    likelihood, parameters, _ = build_case(build, rank)
    assert not likelihood.is_discrete, (
        "num_values must be None for a likelihood that is not normalized"
    )
    try:
        likelihood.sample(parameters)
    except ValueError:
        return
    raise AssertionError("sample must raise ValueError, since is_normalized is False")


def sample_stream_is_the_mode_or_a_sample(build: Build, rank: int) -> None:
    """`sample_stream` returns the mode at temperature 0 and the sample of its seed at temperature
    1, in evaluation mode and without gradients.
    """
    likelihood, parameters, _ = build_case(build, rank)
    likelihood.train()
    cold = _sample_stream(likelihood, [parameters.requires_grad_()], temperature=0.0)
    likelihood.eval()
    parameters = parameters.detach()
    assert not cold.requires_grad, "the output of sample_stream must not require gradients"
    assert torch.equal(cold, likelihood.mode(parameters)), (
        "sample_stream at temperature 0 does not return the mode"
    )
    if not likelihood.is_normalized:
        return
    samples = [
        _sample_stream(likelihood, [parameters], temperature=1.0, seed=seed) for seed in (3, 3, 4)
    ]
    assert torch.equal(samples[0], samples[1]), "sample_stream is not repeatable with the same seed"
    assert not torch.equal(samples[0], samples[2]), "sample_stream ignores the seed"
    assert torch.equal(samples[0], likelihood.sample(parameters, seed=3)), (
        "sample_stream at temperature 1 does not return the sample of that seed"
    )
    try:
        _sample_stream(likelihood, [parameters], temperature=-0.1)
    except ValueError:
        return
    raise AssertionError("sample_stream must raise ValueError for a temperature below 0")


def chunking_does_not_change_samples(build: Build, rank: int) -> None:
    """Splitting the parameters into chunks changes no sample of an autoregressive likelihood: each
    value depends on all earlier values, across chunk boundaries.
    """
    likelihood, parameters, _ = build_case(build, rank)
    if not likelihood.is_autoregressive:
        return
    long = torch.cat([parameters] * 2, dim=2)
    for temperature in (0.0, 1.0):
        full_sample = _sample_stream(likelihood, [long], temperature=temperature, seed=5)
        for lengths in ([1] * long.shape[2], [2, 0, 3, long.shape[2] - 5]):
            chunked = _sample_stream(
                likelihood, long.split(lengths, 2), temperature=temperature, seed=5
            )
            assert torch.equal(chunked, full_sample), (
                f"chunks of {lengths} steps give another sample than the whole at temperature "
                f"{temperature:g}"
            )


def a_lower_temperature_is_less_random(build: Build, rank: int) -> None:
    """Samples at a low temperature are more probable on average than samples at 1."""
    likelihood, parameters, _ = build_case(build, rank)
    with torch.no_grad():
        cold, hot = (
            likelihood.log_prob(
                parameters, _sample_stream(likelihood, [parameters], temperature=t)
            ).mean()
            for t in (LOW_TEMPERATURE, 1.0)
        )
    assert cold > hot, (
        f"samples at temperature {LOW_TEMPERATURE} must be more probable than at 1, got a "
        f"log_prob of {cold:.1f} and {hot:.1f} nats"
    )


def large_parameters_stay_finite(build: Build, rank: int) -> None:
    """`log_prob` and its gradient are finite for large parameters, for data at -1, 0 and 1."""
    likelihood, parameters, x = build_case(build, rank)
    for value in (-1.0, 0.0, 1.0):
        large = (parameters * LARGE_SCALE).requires_grad_()
        total = likelihood.log_prob(large, torch.full_like(x, value)).sum()
        gradient = torch.autograd.grad(total, large)[0]
        assert total.isfinite() and gradient.isfinite().all(), (
            f"log_prob and its gradient must be finite for data of {value} and large parameters, "
            f"got a log_prob of {total.item()}"
        )


def autocast_changes_little(build: Build, rank: int) -> None:
    """Under autocast, `log_prob` is float32 and changes by less than 2 %."""
    likelihood, parameters, x = build_case(build, rank)
    exact = likelihood.log_prob(parameters, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = likelihood.log_prob(parameters, x)
    assert rounded.dtype == torch.float32, (
        f"log_prob must be float32 under autocast, got {rounded.dtype}"
    )
    assert torch.allclose(exact, rounded, rtol=0.02), (
        f"autocast changes log_prob by over 2 %: {exact.tolist()} nats become {rounded.tolist()}"
    )


def log_prob_sums_over_positions(build: Build, rank: int) -> None:
    """`log_prob` is a sum over positions, not a mean: the values for the first steps and for the
    remaining ones add up to the value for the whole. (Does not apply to an autoregressive
    likelihood, whose later steps depend on earlier ones.)
    """
    likelihood, parameters, x = build_case(build, rank)
    if likelihood.is_autoregressive:
        return
    split = x.shape[2] // 2
    total = likelihood.log_prob(parameters, x)
    summed = likelihood.log_prob(parameters[:, :, :split], x[:, :, :split])
    summed = summed + likelihood.log_prob(parameters[:, :, split:], x[:, :, split:])
    assert torch.allclose(total, summed, rtol=1e-4, atol=1e-3), (
        f"rank {rank}: log_prob is not a sum over positions: the parts add up to "
        f"{summed.tolist()} nats, the whole has {total.tolist()}"
    )


def a_loaded_likelihood_is_the_one_that_was_saved(build: Build, rank: int) -> None:
    """A newly built likelihood that loads the `state_dict` of one that has observed data gives
    bitwise the same `log_prob` and mode.
    """
    likelihood, parameters, x = build_case(build, rank)
    likelihood.train().observe(x)
    loaded = build_likelihood(build, rank, 3, seed=7)  # random values that are not saved differ now
    loaded.load_state_dict(likelihood.eval().state_dict())
    assert_equal(likelihood, loaded, "loading changed")
    for name, run in (
        ("log_prob", lambda each: each.log_prob(parameters, x)),
        ("the mode", lambda each: each.mode(parameters)),
    ):
        with torch.no_grad():
            expected, actual = run(likelihood), run(loaded)
        assert torch.equal(actual, expected), (
            f"loading the state_dict into a likelihood built under another seed changes "
            f"{format_mismatch(actual, expected)} values of {name}: the state_dict is incomplete"
        )


def _assert_is_data(name: str, data: Tensor, likelihood: Likelihood, x: Tensor) -> None:
    """Raise `AssertionError` unless data has the shape of x, lies in [-1, 1], and for a discrete
    likelihood has only values of its levels.
    """
    assert data.shape == x.shape, f"{name} must be {list(x.shape)}, got {list(data.shape)}"
    assert data.abs().max() <= 1, (
        f"{name} must lie in [-1, 1], got values from {data.min().item():.3g} to "
        f"{data.max().item():.3g}"
    )
    if likelihood.num_values is not None:
        nearest = likelihood.from_levels(likelihood.to_levels(data))
        assert (data - nearest).abs().max() < 1e-5, (
            f"{name} must only have the {likelihood.num_values} values of the levels"
        )


def _sample_stream(likelihood: Likelihood, chunks: Sequence[Tensor], **options: float) -> Tensor:
    return torch.cat(list(likelihood.sample_stream(chunks, **options)), dim=2)  # type: ignore[arg-type]
