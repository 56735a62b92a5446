"""Laws of the codes and the z_q that a quantizer gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS, share
from vqvideo.testing.quantizer_setup import ITEMS, Build, in_both_modes, trained_quantizer

READ = "vqvideo.quantizers.Quantizer"


def codes_fit_the_grid(build: Build, rank: int) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K); z_q has the shape of z_e. In
    training as in evaluation.
    """
    for quantizer, z_e, where in in_both_modes(build, rank):
        z_q, codes, *_ = quantizer(z_e)
        several = (quantizer.num_codebooks,) if quantizer.num_codebooks > 1 else ()
        expected = (ITEMS, *GRIDS[rank], *several)
        assert codes.shape == expected, (
            f"{where}: codes must be {list(expected)}, got {list(codes.shape)}"
        )
        assert codes.dtype == torch.int64, f"{where}: codes must be int64, got {codes.dtype}"
        low, high = int(codes.min()), int(codes.max())
        assert 0 <= low <= high < quantizer.codebook_size, (
            f"{where}: codes must lie in [0, {quantizer.codebook_size}), got values from {low} to "
            f"{high}"
        )
        assert z_q.shape == z_e.shape, (
            f"{where}: z_q must be {list(z_e.shape)}, got {list(z_q.shape)}"
        )


def codes_tell_vectors_apart(build: Build, rank: int) -> None:
    """Random vectors do not all get the same code, in any codebook."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        if quantizer.codebook_size == 1:
            return
        for number, codes in enumerate(_codebook_by_codebook(quantizer, quantizer(z_e).codes)):
            assert codes.min() < codes.max(), (
                f"{where}: all {codes.numel()} vectors got the code {int(codes.min())} of codebook "
                f"{number}, of {quantizer.codebook_size}"
            )


def decode_gives_z_q(build: Build, rank: int) -> None:
    """decode(codes) is z_q to the bit, in training too before `step()`: what is decoded later is
    what was trained on.
    """
    for quantizer, z_e, where in in_both_modes(build, rank):
        z_q, codes, *_ = quantizer(z_e)
        decoded = quantizer.decode(codes)
        assert decoded.shape == z_e.shape, (
            f"{where}: decode must give {list(z_e.shape)}, got {list(decoded.shape)}"
        )
        apart = (decoded - z_q).abs()
        assert not apart.any(), (
            f"{where}: decode(codes) differs from z_q in {share(decoded, z_q)} numbers, by up to "
            f"{apart.max().item():.1e}"
        )


def the_perplexity_is_that_of_the_codes(build: Build, rank: int) -> None:
    """The perplexity is exp of the entropy of a batch's codes, the mean over codebooks."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        out, own = quantizer(z_e), []
        for codes in _codebook_by_codebook(quantizer, out.codes):
            shares = codes.unique(return_counts=True)[1].double() / codes.numel()
            own.append(math.exp(-(shares * shares.log()).sum().item()))
        found, expected = out.perplexity.item(), sum(own) / len(own)
        assert math.isclose(found, expected, rel_tol=1e-3), (
            f"{where}: the perplexity is {found:.3f}, that of the codes {expected:.3f}"
        )


def nearest_code_wins(build: Build, rank: int) -> None:
    """Every vector gets the entry at the smallest distance, within rounding."""
    for quantizer, z_e, where in in_both_modes(build, rank):
        codes = quantizer(z_e).codes
        table = _entries(quantizer).double()
        for position in itertools.product(range(ITEMS), *map(range, GRIDS[rank])):
            vector = z_e.movedim(1, -1)[position].double()
            distances = (table - vector).square().sum(dim=1)
            chosen, best = distances[codes[position]], distances.min()
            assert chosen - best < 1e-4, (
                f"{where}: the vector at {list(position)} got an entry at squared distance "
                f"{chosen:.4f}, the nearest is at {best:.4f}"
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


def _codebook_by_codebook(quantizer: Quantizer, codes: Tensor) -> Sequence[Tensor]:
    return codes.unbind(-1) if quantizer.num_codebooks > 1 else [codes]
