"""The laws of quantizers."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS, differing, require_equal

Build = Callable[[], Quantizer]
ITEMS = 4


def check_quantizer(build: Build) -> None:
    """All laws of a quantizer, on grids of rank 1, 2 and 3.

    A quantizer that says it is a `plain_lookup` is held to three more: the nearest entry, the
    identity as gradient, the losses of eq. 3.

    Args:
        build: called as `build()`, each time for a new quantizer of the same kind. A small one
            (some ten codes) is checked more sharply than a large one.
    """
    plain = build().plain_lookup
    for rank in GRIDS:
        codes_fit_the_grid(build, rank)
        decode_gives_z_q(build, rank)
        losses_and_perplexity_are_in_range(build, rank)
        if plain:
            nearest_code_wins(build, rank)
            gradient_passes_straight_through(build, rank)
            losses_are_those_of_equation_3(build, rank)
        else:
            gradient_reaches_z_e(build, rank)
    codebook_moves_in_training_only(build)
    two_half_batches_are_one_whole(build)
    codes_do_not_depend_on_the_batch(build)
    codes_do_not_depend_on_autocast(build)
    masked_positions_count_nowhere(build)
    an_empty_batch_gives_no_codes(build)
    a_loaded_quantizer_trains_on_as_if_never_saved(build)
    nan_is_refused(build)


def codes_fit_the_grid(build: Build, rank: int) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K); z_q has the shape of z_e."""
    quantizer, z_e = _trained_quantizer(build, rank)
    z_q, codes, *_ = quantizer(z_e)
    several = (quantizer.num_codebooks,) if quantizer.num_codebooks > 1 else ()
    expected = (ITEMS, *GRIDS[rank], *several)
    assert codes.shape == expected, f"codes must be {list(expected)}, got {list(codes.shape)}"
    assert codes.dtype == torch.int64, f"codes must be int64, got {codes.dtype}"
    low, high = int(codes.min()), int(codes.max())
    assert 0 <= low <= high < quantizer.codebook_size, f"codes from {low} to {high} are not [0, K)"
    assert z_q.shape == z_e.shape, f"z_q must be {list(z_e.shape)}, got {list(z_q.shape)}"


def decode_gives_z_q(build: Build, rank: int) -> None:
    """decode(codes) is z_q to the bit: what is decoded later is what was trained on."""
    quantizer, z_e = _trained_quantizer(build, rank)
    z_q, codes, *_ = quantizer(z_e)
    decoded = quantizer.decode(codes)
    assert decoded.shape == z_e.shape, (
        f"decode must give {list(z_e.shape)}, got {list(decoded.shape)}"
    )
    assert torch.equal(decoded, z_q), f"rank {rank}: decode(codes) differs from z_q"


def losses_and_perplexity_are_in_range(build: Build, rank: int) -> None:
    """Losses are scalars of at least 0, the perplexity lies in [1, K]."""
    quantizer, z_e = _trained_quantizer(build, rank)
    out = quantizer(z_e)
    for name in ("commitment_loss", "codebook_loss"):
        loss = getattr(out, name)
        assert loss.shape == () and loss >= 0, f"rank {rank}: the {name} is {loss}"
    perplexity = out.perplexity.item()
    assert 1 - 1e-4 <= perplexity <= quantizer.codebook_size + 1e-4, (
        f"rank {rank}: a perplexity of {perplexity:.3f} lies outside [1, K]"
    )


def nearest_code_wins(build: Build, rank: int) -> None:
    """Every vector gets the entry at the smallest distance, within rounding."""
    quantizer, z_e = _trained_quantizer(build, rank)
    codes = quantizer(z_e).codes
    table = _entries(quantizer).double()
    for position in itertools.product(range(ITEMS), *map(range, GRIDS[rank])):
        vector = z_e.movedim(1, -1)[position].double()
        distances = (table - vector).square().sum(dim=1)
        chosen, best = distances[codes[position]], distances.min()
        assert chosen - best < 1e-4, (
            f"rank {rank}: the vector at {list(position)} got an entry at squared distance "
            f"{chosen:.4f}, the nearest is at {best:.4f}"
        )


def gradient_passes_straight_through(build: Build, rank: int) -> None:
    """The gradient that reaches z_q reaches z_e unchanged (section 3.2 of the paper)."""
    outgoing, incoming = _gradient(build, rank)
    assert outgoing is not None and torch.equal(outgoing, incoming), (
        f"rank {rank}: the straight-through gradient is not the identity"
    )


def gradient_reaches_z_e(build: Build, rank: int) -> None:
    """Every channel of z_e gets some gradient from z_q, and all of it is finite."""
    outgoing, _ = _gradient(build, rank)
    assert outgoing is not None and outgoing.isfinite().all(), (
        f"rank {rank}: no finite gradient reaches z_e"
    )
    deaf = torch.nonzero(outgoing.movedim(1, 0).flatten(1).abs().sum(dim=1) == 0).flatten()
    assert not len(deaf), f"rank {rank}: channels {deaf.tolist()} of z_e get no gradient"


def losses_are_those_of_equation_3(build: Build, rank: int) -> None:
    """The commitment loss is the mean of (z_e - z_q)^2, the codebook loss the same or zero."""
    quantizer, z_e = _trained_quantizer(build, rank)
    out = quantizer(z_e)
    expected = (z_e - out.z_q).double().square().mean().item()
    assert abs(out.commitment_loss.item() - expected) < 1e-4 * max(expected, 1), (
        f"rank {rank}: the commitment loss is {out.commitment_loss.item():.5f}, "
        f"the mean square of z_e - z_q {expected:.5f}"
    )
    loss = out.codebook_loss.item()
    assert loss == 0 or abs(loss - expected) < 1e-4 * max(expected, 1), (
        f"rank {rank}: the codebook loss is {loss:.5f}, neither 0 nor {expected:.5f}"
    )


def codes_do_not_depend_on_the_batch(build: Build) -> None:
    """An item alone gets the codes it gets in a batch, whatever the other items are; where two
    choices are equally good within rounding, either.
    """
    quantizer, z_e = _trained_quantizer(build, rank=2)
    z_e[1] *= 100  # a loud neighbour
    together = quantizer(z_e)
    for item in range(ITEMS):
        alone = quantizer(z_e[item : item + 1])
        _require_same_codes(alone.codes[0], together.codes[item], z_e[item], quantizer, "a batch")


def codes_do_not_depend_on_autocast(build: Build) -> None:
    """The search is in float32 under any autocast, and so is z_q."""
    quantizer, z_e = _trained_quantizer(build, rank=2)
    plain = quantizer(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z_e)
    assert torch.equal(cast.codes, plain.codes), "codes differ under autocast"
    assert torch.equal(cast.z_q, plain.z_q), "z_q differs under autocast"


def masked_positions_count_nowhere(build: Build) -> None:
    """What stands under a false mask changes no loss, no perplexity, no other code, and nothing
    that a training step leaves behind.
    """
    quantizer, z_e = _trained_quantizer(build, rank=2)
    mask = torch.rand(ITEMS, *GRIDS[2]) < 0.5
    spoilt = torch.where(mask[:, None], z_e, z_e * 3 + 5)
    one, other = quantizer(z_e, mask), quantizer(spoilt, mask)
    for name in ("commitment_loss", "codebook_loss", "perplexity"):
        difference = (getattr(one, name) - getattr(other, name)).abs().item()
        assert difference < 1e-5, f"masked positions change the {name} by {difference:.1e}"
    assert torch.equal(one.codes[mask], other.codes[mask]), "masked positions change other codes"
    twin = copy.deepcopy(quantizer)
    quantizer.train()(z_e, mask)
    twin.train()(spoilt, mask)
    require_equal(quantizer, twin, "masked positions change")


def an_empty_batch_gives_no_codes(build: Build) -> None:
    """A batch of no items gives empty codes and finite losses, and moves nothing."""
    quantizer, _ = _trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    out = quantizer.train()(torch.zeros(0, quantizer.z_channels, *GRIDS[2]))
    assert out.codes.numel() == 0, f"an empty batch gave codes {list(out.codes.shape)}"
    assert out.commitment_loss.isfinite() and out.codebook_loss.isfinite(), (
        "the losses of an empty batch are not finite"
    )
    changed = differing(before, quantizer.state_dict())
    assert not changed, f"an empty batch changed {', '.join(changed)}"


def codebook_moves_in_training_only(build: Build) -> None:
    """Evaluation changes no buffer and no parameter."""
    quantizer, z_e = _trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(z_e + 1)
        quantizer.step()
    changed = differing(before, quantizer.state_dict())
    assert not changed, f"evaluation changed {', '.join(changed)}"


def two_half_batches_are_one_whole(build: Build) -> None:
    """With `auto_step` off, nothing moves before `step()`, and a step over two half batches
    leaves what a step over the whole batch leaves, from the first step on.
    """
    torch.manual_seed(0)
    whole = build().train()
    whole.auto_step = False
    halves = copy.deepcopy(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            z_e = torch.randn(ITEMS, whole.z_channels, *GRIDS[2])
            before = copy.deepcopy(halves.state_dict())
            whole(z_e)
            for half in z_e.chunk(2):
                halves(half)
            changed = differing(before, halves.state_dict())
            assert not changed, f"forward changed {', '.join(changed)} before step()"
            whole.step()
            halves.step()
    for name, tensor in whole.state_dict().items():
        other = halves.state_dict()[name]
        assert torch.allclose(other.double(), tensor.double(), rtol=1e-4, atol=1e-5), (
            f"two half batches leave another {name} than the whole batch"
        )


def a_loaded_quantizer_trains_on_as_if_never_saved(build: Build) -> None:
    """Loading a checkpoint changes no entry, and the next training step is the same with it as
    without: nothing is initialised again, no statistic is forgotten.
    """
    quantizer, z_e = _trained_quantizer(build, rank=2)
    again = build()
    again.load_state_dict(quantizer.state_dict())
    require_equal(quantizer, again, "loading changed")
    for each in (quantizer, again):
        torch.manual_seed(5)
        each.train()(z_e * 1.1)
    require_equal(quantizer, again, "after loading and one more step, these differ:")


def nan_is_refused(build: Build) -> None:
    """NaN or infinity in z_e raises `ValueError` with its location, before it can enter a
    codebook.
    """
    for value in (math.nan, -math.inf):
        quantizer, z_e = _trained_quantizer(build, rank=2)
        channel = quantizer.z_channels - 1
        z_e[1, channel, 3, 1] = value
        try:
            quantizer(z_e)
        except ValueError as error:
            place = [1, channel, 3, 1]
            assert str(place) in str(error), f"the error does not say where: {error}"
        else:
            raise AssertionError(f"{value} in z_e was accepted")


def _trained_quantizer(build: Build, rank: int) -> tuple[Quantizer, Tensor]:
    """A quantizer after some training steps, in evaluation mode, and a batch for it."""
    torch.manual_seed(rank)
    quantizer = build().train()
    shape = (ITEMS, quantizer.z_channels, *GRIDS[rank])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small batches may rightly warn
        for _ in range(100):
            quantizer(torch.randn(shape))
            if not quantizer.warming_up:
                break
        else:
            raise AssertionError("the quantizer still warms up after 100 steps")
        for _ in range(3):
            quantizer(torch.randn(shape))
    return quantizer.eval(), torch.randn(shape)


def _gradient(build: Build, rank: int) -> tuple[Tensor | None, Tensor]:
    """The gradient of z_e, and the one that z_q got."""
    quantizer, z_e = _trained_quantizer(build, rank)
    z_e.requires_grad_()
    z_q = quantizer(z_e).z_q
    incoming = torch.randn_like(z_q)
    assert z_q.requires_grad, f"rank {rank}: no finite gradient reaches z_e"
    (outgoing,) = torch.autograd.grad(z_q, z_e, incoming, allow_unused=True)
    return outgoing, incoming


def _require_same_codes(
    one: Tensor, other: Tensor, z_e: Tensor, quantizer: Quantizer, where: str
) -> None:
    """The same codes `[*grid(, s)]` of one item, but for choices equally good within 1e-4."""
    distances = [
        (quantizer.decode(codes[None])[0] - z_e).double().square().sum(dim=0)
        for codes in (one, other)
    ]
    differ = one != other
    if quantizer.num_codebooks > 1:
        differ = differ.any(dim=-1)
    bad = differ & ((distances[0] - distances[1]).abs() > 1e-4 * (1 + distances[0]))
    assert not bad.any(), f"{int(bad.sum())} codes of an item differ between it alone and {where}"


def _entries(quantizer: Quantizer) -> Tensor:
    """The codebook `[K, d]`, asked for through the front door."""
    every = torch.arange(quantizer.codebook_size)[None]
    return quantizer.decode(every)[0].T.detach()
