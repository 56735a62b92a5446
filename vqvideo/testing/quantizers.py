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


def check_quantizer(build: Callable[..., Quantizer]) -> None:
    """All laws of a quantizer, on grids of rank 1, 2 and 3.

    Args:
        build: called as `build(codebook_size=..., code_dim=...)`.
    """
    for rank in GRIDS:
        nearest_code_wins(build, rank)
        decode_gives_z_q(build, rank)
        gradient_passes_straight_through(build, rank)
        losses_are_those_of_equation_3(build, rank)
    masked_positions_count_nowhere(build)
    codebook_moves_in_training_only(build)
    a_loaded_quantizer_trains_on_as_if_never_saved(build)
    nan_is_refused(build)


def nearest_code_wins(build: Callable[..., Quantizer], rank: int) -> None:
    """Every vector gets the entry at the smallest distance, within rounding."""
    quantizer, z_e = _trained_quantizer(build, rank)
    codes = quantizer(z_e).codes
    assert codes.shape == (2, *GRIDS[rank]), f"codes must be [b, *grid], got {list(codes.shape)}"
    table = _entries(quantizer).double()
    for position in itertools.product(range(2), *map(range, GRIDS[rank])):
        vector = z_e.movedim(1, -1)[position].double()
        distances = (table - vector).square().sum(dim=1)
        chosen, best = distances[codes[position]], distances.min()
        assert chosen - best < 1e-4, (
            f"rank {rank}: the vector at {list(position)} got an entry at squared distance "
            f"{chosen:.4f}, the nearest is at {best:.4f}"
        )


def decode_gives_z_q(build: Callable[..., Quantizer], rank: int) -> None:
    """decode(codes) is z_q to the bit: what is decoded later is what was trained on."""
    quantizer, z_e = _trained_quantizer(build, rank)
    z_q, codes, *_ = quantizer(z_e)
    decoded = quantizer.decode(codes)
    assert decoded.shape == z_e.shape, (
        f"decode must give {list(z_e.shape)}, got {list(decoded.shape)}"
    )
    assert torch.equal(decoded, z_q), f"rank {rank}: decode(codes) differs from z_q"


def gradient_passes_straight_through(build: Callable[..., Quantizer], rank: int) -> None:
    """The gradient that reaches z_q reaches z_e unchanged (section 3.2 of the paper)."""
    quantizer, z_e = _trained_quantizer(build, rank)
    z_e.requires_grad_()
    z_q = quantizer(z_e).z_q
    incoming = torch.randn_like(z_q)
    (outgoing,) = torch.autograd.grad(z_q, z_e, incoming, allow_unused=True)
    assert outgoing is not None and torch.equal(outgoing, incoming), (
        f"rank {rank}: the straight-through gradient is not the identity"
    )


def losses_are_those_of_equation_3(build: Callable[..., Quantizer], rank: int) -> None:
    """The commitment loss is the mean of (z_e - z_q)^2, the codebook loss the same or zero, and
    the perplexity lies in [1, K].
    """
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
    perplexity = out.perplexity.item()
    assert 1 - 1e-4 <= perplexity <= quantizer.codebook_size + 1e-4, (
        f"rank {rank}: a perplexity of {perplexity:.3f} lies outside [1, K]"
    )


def masked_positions_count_nowhere(build: Callable[..., Quantizer]) -> None:
    """What stands under a false mask changes no loss, no perplexity and no other code."""
    quantizer, z_e = _trained_quantizer(build, rank=2)
    mask = torch.rand(2, *GRIDS[2]) < 0.5
    spoilt = torch.where(mask[:, None], z_e, z_e * 3 + 5)
    one, other = quantizer(z_e, mask), quantizer(spoilt, mask)
    for name in ("commitment_loss", "codebook_loss", "perplexity"):
        difference = (getattr(one, name) - getattr(other, name)).abs().item()
        assert difference < 1e-5, f"masked positions change the {name} by {difference:.1e}"
    assert torch.equal(one.codes[mask], other.codes[mask]), "masked positions change other codes"


def codebook_moves_in_training_only(build: Callable[..., Quantizer]) -> None:
    """Evaluation changes no buffer and no parameter."""
    quantizer, z_e = _trained_quantizer(build, rank=2)
    before = copy.deepcopy(quantizer.state_dict())
    for _ in range(3):
        quantizer(z_e + 1)
    changed = differing(before, quantizer.state_dict())
    assert not changed, f"evaluation changed {', '.join(changed)}"


def a_loaded_quantizer_trains_on_as_if_never_saved(build: Callable[..., Quantizer]) -> None:
    """Loading a checkpoint changes no entry, and the next training step is the same with it as
    without: nothing is initialised again, no statistic is forgotten.
    """
    quantizer, z_e = _trained_quantizer(build, rank=2)
    again = build(codebook_size=quantizer.codebook_size, code_dim=quantizer.code_dim)
    again.load_state_dict(quantizer.state_dict())
    require_equal(quantizer, again, "loading changed")
    for each in (quantizer, again):
        torch.manual_seed(5)
        each.train()(z_e * 1.1)
    require_equal(quantizer, again, "after loading and one more step, these differ:")


def nan_is_refused(build: Callable[..., Quantizer]) -> None:
    """NaN in z_e raises `ValueError` with its location, before it can enter a codebook."""
    quantizer, z_e = _trained_quantizer(build, rank=2)
    z_e[1, 2, 3, 1] = math.nan
    try:
        quantizer(z_e)
    except ValueError as error:
        assert "[1, 2, 3, 1]" in str(error), f"the error does not say where: {error}"
    else:
        raise AssertionError("NaN in z_e was accepted")


def _trained_quantizer(build: Callable[..., Quantizer], rank: int) -> tuple[Quantizer, Tensor]:
    """A quantizer after some training steps, in evaluation mode, and a batch for it."""
    torch.manual_seed(rank)
    quantizer = build(codebook_size=7, code_dim=4).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small batches may rightly warn
        for _ in range(3):
            quantizer(torch.randn(2, 4, *GRIDS[rank]))
    return quantizer.eval(), torch.randn(2, 4, *GRIDS[rank])


def _entries(quantizer: Quantizer) -> Tensor:
    """The codebook `[K, d]`, asked for through the front door."""
    every = torch.arange(quantizer.codebook_size)[None]
    return quantizer.decode(every)[0].T.detach()
