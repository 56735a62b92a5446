"""Laws of what a quantizer gives: codes, z_q, losses, gradients."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS, share
from vqvideo.testing.quantizer_setup import ITEMS, Build, trained_quantizer

READ = '"A quantizer" in docs/architecture.md'


def codes_fit_the_grid(build: Build, rank: int) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K); z_q has the shape of z_e."""
    quantizer, z_e = trained_quantizer(build, rank)
    z_q, codes, *_ = quantizer(z_e)
    several = (quantizer.num_codebooks,) if quantizer.num_codebooks > 1 else ()
    expected = (ITEMS, *GRIDS[rank], *several)
    assert codes.shape == expected, f"codes must be {list(expected)}, got {list(codes.shape)}"
    assert codes.dtype == torch.int64, f"codes must be int64, got {codes.dtype}"
    low, high = int(codes.min()), int(codes.max())
    assert 0 <= low <= high < quantizer.codebook_size, (
        f"codes must lie in [0, {quantizer.codebook_size}), got values from {low} to {high}"
    )
    assert z_q.shape == z_e.shape, f"z_q must be {list(z_e.shape)}, got {list(z_q.shape)}"


def decode_gives_z_q(build: Build, rank: int) -> None:
    """decode(codes) is z_q to the bit: what is decoded later is what was trained on."""
    quantizer, z_e = trained_quantizer(build, rank)
    z_q, codes, *_ = quantizer(z_e)
    decoded = quantizer.decode(codes)
    assert decoded.shape == z_e.shape, (
        f"decode must give {list(z_e.shape)}, got {list(decoded.shape)}"
    )
    apart = (decoded - z_q).abs()
    assert not apart.any(), (
        f"rank {rank}: decode(codes) differs from z_q in {share(decoded, z_q)} numbers, by up to "
        f"{apart.max().item():.1e}"
    )


def losses_and_perplexity_are_in_range(build: Build, rank: int) -> None:
    """Losses are scalars of at least 0, the perplexity lies in [1, K]."""
    quantizer, z_e = trained_quantizer(build, rank)
    out = quantizer(z_e)
    for name in ("commitment_loss", "codebook_loss"):
        loss = getattr(out, name)
        assert loss.shape == () and loss >= 0, f"rank {rank}: the {name} is {loss}"
    perplexity = out.perplexity.item()
    assert 1 - 1e-4 <= perplexity <= quantizer.codebook_size + 1e-4, (
        f"rank {rank}: a perplexity of {perplexity:.3f} lies outside [1, K], K = "
        f"{quantizer.codebook_size}"
    )


def nearest_code_wins(build: Build, rank: int) -> None:
    """Every vector gets the entry at the smallest distance, within rounding."""
    quantizer, z_e = trained_quantizer(build, rank)
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
    apart = incoming if outgoing is None else outgoing - incoming
    assert not apart.any(), (
        f"rank {rank}: the straight-through gradient is not the identity: z_e gets what z_q got "
        f"changed by up to {apart.abs().max().item():.1e}"
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
    quantizer, z_e = trained_quantizer(build, rank)
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
    quantizer, z_e = trained_quantizer(build, rank=2)
    z_e[1] *= 100  # a loud neighbour
    together = quantizer(z_e)
    for item in range(ITEMS):
        alone = quantizer(z_e[item : item + 1])
        _require_same_codes(alone.codes[0], together.codes[item], z_e[item], quantizer, "a batch")


def codes_do_not_depend_on_autocast(build: Build) -> None:
    """The search is in float32 under any autocast, and so is z_q."""
    quantizer, z_e = trained_quantizer(build, rank=2)
    plain = quantizer(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z_e)
    for name in ("codes", "z_q"):
        one, other = getattr(plain, name), getattr(cast, name)
        assert torch.equal(one, other), (
            f"{share(one, other)} numbers of {name} differ under autocast"
        )


def _gradient(build: Build, rank: int) -> tuple[Tensor | None, Tensor]:
    """The gradient of z_e, and the one that z_q got."""
    quantizer, z_e = trained_quantizer(build, rank)
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
