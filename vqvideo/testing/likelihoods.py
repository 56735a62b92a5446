"""The laws of likelihoods."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import GRIDS
from vqvideo.testing.laws import hold, name_of

READ = '"A likelihood" in docs/architecture.md'
Build = Callable[..., Likelihood]

DRAWS = 4000  # samples that are counted
FAR = 40.0  # times as large as parameters usually are
COLD = 0.1  # a temperature far below 1


def check_likelihood(
    build: Build, ranks: Sequence[int] = tuple(GRIDS), *, counted: Sequence[int] = (1, 2)
) -> None:
    """All laws of a likelihood.

    One that is not normalised is held to fewer: it has no samples, and must say so.

    Args:
        build: called with `rank` and `channels` if it takes them, and nothing else. Make it small
            if it has a network.
        ranks: of the data that it is for.
        counted: channels of a position, of which every value it can have is gone through; two of
            256 values each take a while.
    """
    likelihood = _built(build, ranks[0], 3)
    name = name_of(likelihood, Likelihood)
    special = LAWS_OF_A_DISTRIBUTION if likelihood.is_normalized else LAWS_OF_A_SCORE
    for rank in ranks:
        hold([*LAWS, *special], name, build, rank)
    for channels in counted:
        hold(LAWS_OF_PROBABILITIES, name, build, ranks[0], channels)
    if likelihood.is_normalized:
        hold([a_lower_temperature_is_less_random], name, build, ranks[0])


def an_item_is_scored_by_itself(build: Build, rank: int) -> None:
    """`log_prob` is `[b]`, and that of an item does not depend on the others in its batch."""
    likelihood, parameters, x = _case(build, rank)
    nats = likelihood.log_prob(parameters, x)
    assert nats.shape == (2,), f"log_prob must be [b], got {list(nats.shape)}"
    alone = likelihood.log_prob(parameters[1:], x[1:])
    assert torch.allclose(nats[1:], alone), (
        f"rank {rank}: the likelihood of an item depends on its batch: {nats[1].item():.4f} nats "
        f"in it, {alone[0].item():.4f} alone"
    )


def the_mode_is_data(build: Build, rank: int) -> None:
    """The mode is data in [-1, 1], of the values that are scored, and more probable than noise."""
    likelihood, parameters, x = _case(build, rank)
    mode = likelihood.mode(parameters)
    _require_data("mode", mode, likelihood, x)
    best, noise = (likelihood.log_prob(parameters, each) for each in (mode, x))
    assert (best > noise).all(), (
        f"rank {rank}: random data is more probable than the mode: {noise.tolist()} nats against "
        f"{best.tolist()}"
    )


def samples_are_data(build: Build, rank: int) -> None:
    """Samples are data in [-1, 1], of the values that are scored; their seed decides them."""
    likelihood, parameters, x = _case(build, rank)
    sample = likelihood.sample(parameters, seed=3)
    _require_data("sample", sample, likelihood, x)
    assert torch.equal(likelihood.sample(parameters, seed=3), sample), "a seed does not repeat"
    other = likelihood.sample(parameters, seed=4)
    assert not torch.equal(other, sample), "every seed gives the same sample"


def there_are_no_samples(build: Build, rank: int) -> None:
    """What is no distribution draws none: `sample` raises `ValueError`."""
    likelihood, parameters, _ = _case(build, rank)
    assert not likelihood.gives_bits, "what is no distribution has no bits: num_values must be None"
    try:
        likelihood.sample(parameters)
    except ValueError:
        return
    raise AssertionError("it says it is not normalised, and yet it gives samples")


def what_is_drawn_is_mode_or_sample(build: Build, rank: int) -> None:
    """`drawn` gives the mode at temperature 0 and the sample of its seed at 1, in evaluation mode
    and without gradients.
    """
    likelihood, parameters, _ = _case(build, rank)
    likelihood.train()
    cold = _drawn(likelihood, [parameters.requires_grad_()], temperature=0.0)
    likelihood.eval()
    parameters = parameters.detach()
    assert not cold.requires_grad, "drawn keeps what gradients need"
    assert torch.equal(cold, likelihood.mode(parameters)), "drawn at temperature 0 is not the mode"
    if not likelihood.is_normalized:
        return
    drawn = [_drawn(likelihood, [parameters], temperature=1.0, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1]), "a seed does not repeat what is drawn"
    assert not torch.equal(drawn[0], drawn[2]), "every seed draws the same"
    assert torch.equal(drawn[0], likelihood.sample(parameters, seed=3)), (
        "drawn at temperature 1 is not the sample of that seed"
    )
    try:
        _drawn(likelihood, [parameters], temperature=-0.1)
    except ValueError:
        return
    raise AssertionError("a temperature below 0 was accepted")


def pieces_of_an_autoregressive_one_decide_nothing(build: Build, rank: int) -> None:
    """Each value is told all those before it, also those of the pieces before, wherever the
    parameters are cut.
    """
    likelihood, parameters, _ = _case(build, rank)
    if not likelihood.is_autoregressive:
        return
    long = torch.cat([parameters] * 2, dim=2)
    for temperature in (0.0, 1.0):
        whole = _drawn(likelihood, [long], temperature=temperature, seed=5)
        for lengths in ([1] * long.shape[2], [2, 0, 3, long.shape[2] - 5]):
            apart = _drawn(likelihood, long.split(lengths, 2), temperature=temperature, seed=5)
            assert torch.equal(apart, whole), (
                f"pieces of {lengths} steps give something else than the whole at temperature "
                f"{temperature:g}"
            )


def a_lower_temperature_is_less_random(build: Build, rank: int) -> None:
    """What is drawn at a low temperature is more probable on average than at 1."""
    likelihood, parameters, _ = _case(build, rank)
    with torch.no_grad():
        cold, usual = (
            likelihood.log_prob(parameters, _drawn(likelihood, [parameters], temperature=t)).mean()
            for t in (COLD, 1.0)
        )
    assert cold > usual, (
        f"what is drawn at temperature {COLD} has {cold:.1f} nats, no more than the {usual:.1f} of "
        f"what is drawn at 1"
    )


def far_parameters_give_numbers(build: Build, rank: int) -> None:
    """`log_prob` and its gradient are finite for parameters far off, at both ends of the range of
    data and in the middle.
    """
    likelihood, parameters, x = _case(build, rank)
    for value in (-1.0, 0.0, 1.0):
        far = (parameters * FAR).requires_grad_()
        nats = likelihood.log_prob(far, torch.full_like(x, value)).sum()
        gradient = torch.autograd.grad(nats, far)[0]
        assert nats.isfinite() and gradient.isfinite().all(), (
            f"data at {value} under parameters far off gives a log_prob of {nats.item()} or a "
            f"gradient that is not finite"
        )


def autocast_changes_little(build: Build, rank: int) -> None:
    """Under autocast `log_prob` is still float32, and the same to 2 %."""
    likelihood, parameters, x = _case(build, rank)
    nats = likelihood.log_prob(parameters, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = likelihood.log_prob(parameters, x)
    assert rounded.dtype == torch.float32, f"under autocast log_prob is {rounded.dtype}"
    assert torch.allclose(nats, rounded, rtol=0.02), (
        f"autocast changes log_prob by over 2 %: {nats.tolist()} nats become {rounded.tolist()}"
    )


def probabilities_sum_to_one(build: Build, rank: int, channels: int) -> None:
    """The probabilities of all values of a position add up to 1, whatever the parameters."""
    likelihood = _built(build, rank, channels).double()
    assert likelihood.gives_bits == (likelihood.num_values is not None), (
        "num_values must say over how many values there are probabilities, None for a density"
    )
    if likelihood.num_values is None:
        return
    every, x = _every_value(likelihood, rank, channels)
    assert torch.equal(likelihood.to_levels(x).flatten(1), every), (
        "to_levels gives a value of from_levels another number than its own"
    )
    for scale in (0.5, 5.0):
        parameters = scale * _of_one_position(likelihood, rank, channels)
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
    likelihood, number = _built(build, rank, channels).double(), DRAWS * channels
    if likelihood.num_values is None:
        return
    parameters = _of_one_position(likelihood, rank, channels)
    every, x = _every_value(likelihood, rank, channels)
    with torch.no_grad():
        nats = likelihood.log_prob(parameters.expand(len(x), *parameters.shape[1:]), x).double()
        drawn = likelihood.sample(parameters.expand(number, *parameters.shape[1:]), seed=5)
    levels = likelihood.to_levels(drawn).flatten(1)
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


LAWS = (
    an_item_is_scored_by_itself,
    the_mode_is_data,
    what_is_drawn_is_mode_or_sample,
    far_parameters_give_numbers,
    autocast_changes_little,
)
LAWS_OF_A_DISTRIBUTION = (samples_are_data, pieces_of_an_autoregressive_one_decide_nothing)
LAWS_OF_A_SCORE = (there_are_no_samples,)
LAWS_OF_PROBABILITIES = (probabilities_sum_to_one, samples_come_as_often_as_they_are_probable)


def _require_data(name: str, data: Tensor, likelihood: Likelihood, x: Tensor) -> None:
    """Shaped like x, within [-1, 1], and of a discrete likelihood one of the values it scores."""
    assert data.shape == x.shape, f"{name} must be {list(x.shape)}, got {list(data.shape)}"
    assert data.abs().max() <= 1, (
        f"{name} leaves [-1, 1]: values from {data.min().item():.3g} to {data.max().item():.3g}"
    )
    if likelihood.num_values is not None:
        nearest = likelihood.from_levels(likelihood.to_levels(data))
        assert (data - nearest).abs().max() < 1e-5, (
            f"{name} gives other values than the {likelihood.num_values} that are scored"
        )


def _drawn(likelihood: Likelihood, pieces: Sequence[Tensor], **options: float) -> Tensor:
    return torch.cat(list(likelihood.drawn(pieces, **options)), dim=2)  # type: ignore[arg-type]


def _every_value(likelihood: Likelihood, rank: int, channels: int) -> tuple[Tensor, Tensor]:
    """All numbers `[n, c]` that the channels of a position can have, and the data `[n, c, 1...]`
    that they stand for.
    """
    assert likelihood.num_values is not None
    every = torch.tensor(list(itertools.product(range(likelihood.num_values), repeat=channels)))
    return every, likelihood.from_levels(every).reshape(-1, channels, *(1,) * rank)


def _of_one_position(likelihood: Likelihood, rank: int, channels: int) -> Tensor:
    number = likelihood.num_parameters(channels)
    return torch.randn(1, number, *(1,) * rank, dtype=torch.float64)


def _case(build: Build, rank: int) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood, parameters and data of three channels."""
    likelihood = _built(build, rank, 3)
    shape = (2, 3, *GRIDS[rank])
    if likelihood.num_values is None:
        x = torch.rand(shape) * 2 - 1
    else:
        x = likelihood.from_levels(torch.randint(likelihood.num_values, shape))
    return likelihood, torch.randn(2, likelihood.num_parameters(3), *GRIDS[rank]), x


def _built(build: Build, rank: int, channels: int) -> Likelihood:
    torch.manual_seed(rank)
    taken = inspect.signature(build).parameters
    given = {"rank": rank, "channels": channels}
    told = {name: value for name, value in given.items() if name in taken}
    return functools.partial(build, **told)().eval()
