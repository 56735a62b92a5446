"""Laws of what a likelihood scores, shows and draws, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import require_equal, share
from vqvideo.testing.likelihood_setup import Build, built, case_of

READ = "vqvideo.likelihoods.Likelihood"

FAR = 40.0  # times as large as parameters usually are
COLD = 0.1  # a temperature far below 1


def an_item_is_scored_by_itself(build: Build, rank: int) -> None:
    """`log_prob` is `[b]`, and that of an item does not depend on the others in its batch."""
    likelihood, parameters, x = case_of(build, rank)
    nats = likelihood.log_prob(parameters, x)
    assert nats.shape == (2,), f"log_prob must be [b], got {list(nats.shape)}"
    alone = likelihood.log_prob(parameters[1:], x[1:])
    assert torch.allclose(nats[1:], alone), (
        f"rank {rank}: the likelihood of an item depends on its batch: {nats[1].item():.4f} nats "
        f"in it, {alone[0].item():.4f} alone"
    )


def the_mode_is_data(build: Build, rank: int) -> None:
    """The mode is data in [-1, 1], of the values that are scored, and more probable than noise."""
    likelihood, parameters, x = case_of(build, rank)
    mode = likelihood.mode(parameters)
    _require_data("mode", mode, likelihood, x)
    best, noise = (likelihood.log_prob(parameters, each) for each in (mode, x))
    assert (best > noise).all(), (
        f"rank {rank}: random data is more probable than the mode: {noise.tolist()} nats against "
        f"{best.tolist()}"
    )


def samples_are_data(build: Build, rank: int) -> None:
    """Samples are data in [-1, 1], of the values that are scored; their seed decides them."""
    likelihood, parameters, x = case_of(build, rank)
    sample = likelihood.sample(parameters, seed=3)
    _require_data("sample", sample, likelihood, x)
    assert torch.equal(likelihood.sample(parameters, seed=3), sample), "a seed does not repeat"
    other = likelihood.sample(parameters, seed=4)
    assert not torch.equal(other, sample), "every seed gives the same sample"


def there_are_no_samples(build: Build, rank: int) -> None:
    """What is no distribution draws none: `sample` raises `ValueError`."""
    likelihood, parameters, _ = case_of(build, rank)
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
    likelihood, parameters, _ = case_of(build, rank)
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
    likelihood, parameters, _ = case_of(build, rank)
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
    likelihood, parameters, _ = case_of(build, rank)
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
    likelihood, parameters, x = case_of(build, rank)
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
    likelihood, parameters, x = case_of(build, rank)
    nats = likelihood.log_prob(parameters, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = likelihood.log_prob(parameters, x)
    assert rounded.dtype == torch.float32, f"under autocast log_prob is {rounded.dtype}"
    assert torch.allclose(nats, rounded, rtol=0.02), (
        f"autocast changes log_prob by over 2 %: {nats.tolist()} nats become {rounded.tolist()}"
    )


def nats_of_positions_add_up(build: Build, rank: int) -> None:
    """`log_prob` is a sum over all positions, no mean: those before some step and those from there
    on add up to the whole. (Of an autoregressive one, which is told what came before, no part can
    be scored alone.)
    """
    likelihood, parameters, x = case_of(build, rank)
    if likelihood.is_autoregressive:
        return
    cut = x.shape[2] // 2
    whole = likelihood.log_prob(parameters, x)
    parts = likelihood.log_prob(parameters[:, :, :cut], x[:, :, :cut])
    parts = parts + likelihood.log_prob(parameters[:, :, cut:], x[:, :, cut:])
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-3), (
        f"rank {rank}: log_prob is no sum over positions: the parts of an item come to "
        f"{parts.tolist()} nats, the whole to {whole.tolist()}"
    )


def a_loaded_likelihood_is_the_one_that_was_saved(build: Build, rank: int) -> None:
    """One that has seen data, saved and loaded into one built anew, gives the same `log_prob` and
    the same mode, bit for bit.
    """
    likelihood, parameters, x = case_of(build, rank)
    likelihood.train().observe(x)
    again = built(build, rank, 3, seed=7)  # what is drawn and not saved is another now
    again.load_state_dict(likelihood.eval().state_dict())
    require_equal(likelihood, again, "loading changed")
    for what, run in (
        ("log_prob", lambda each: each.log_prob(parameters, x)),
        ("the mode", lambda each: each.mode(parameters)),
    ):
        with torch.no_grad():
            expected, found = run(likelihood), run(again)
        assert torch.equal(found, expected), (
            f"loaded into a likelihood built under another seed, its state gives "
            f"{share(found, expected)} numbers of {what} otherwise: something is not in the "
            f"state_dict"
        )


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
