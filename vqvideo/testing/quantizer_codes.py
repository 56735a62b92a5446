"""Laws of the codes and the z_q that a quantizer returns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS, format_mismatch
from vqvideo.testing.quantizer_setup import BATCH_SIZE, Build, build_trained_quantizer, iter_modes

REFERENCE = "vqvideo.quantizers.Quantizer"


def codes_fit_the_grid(build: Build, rank: int) -> None:
    """Codes are int64 `[b, *grid]`, or `[b, *grid, s]`, in [0, K), and z_q has the shape of z_e,
    in training and in evaluation.
    """
    for quantizer, z_e, where in iter_modes(build, rank):
        z_q, codes, *_ = quantizer(z_e)
        inner_shape = (quantizer.num_codebooks,) if quantizer.num_codebooks > 1 else ()
        expected = (BATCH_SIZE, *GRIDS[rank], *inner_shape)
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


def codes_distinguish_vectors(build: Build, rank: int) -> None:
    """Random vectors do not all get the same code, in any codebook."""
    for quantizer, z_e, where in iter_modes(build, rank):
        if quantizer.codebook_size == 1:
            return
        for index, codes in enumerate(_split_codebooks(quantizer, quantizer(z_e).codes)):
            assert codes.min() < codes.max(), (
                f"{where}: all {codes.numel()} vectors got the code {int(codes.min())} of codebook "
                f"{index}, of {quantizer.codebook_size}"
            )


def decode_returns_z_q(build: Build, rank: int) -> None:
    """decode(codes) is bitwise equal to z_q, also in training before `update_codebook()`: decoding
    reproduces the vectors that the decoder was trained on.
    """
    for quantizer, z_e, where in iter_modes(build, rank):
        z_q, codes, *_ = quantizer(z_e)
        decoded = quantizer.decode(codes)
        assert decoded.shape == z_e.shape, (
            f"{where}: decode must return {list(z_e.shape)}, got {list(decoded.shape)}"
        )
        error = (decoded - z_q).abs()
        assert not error.any(), (
            f"{where}: decode(codes) differs from z_q in {format_mismatch(decoded, z_q)} values, "
            f"by up to {error.max().item():.1e}"
        )


def the_perplexity_matches_the_codes(build: Build, rank: int) -> None:
    """The perplexity is exp(entropy) of the codes of a batch, averaged over codebooks."""
    for quantizer, z_e, where in iter_modes(build, rank):
        out, values = quantizer(z_e), []
        for codes in _split_codebooks(quantizer, out.codes):
            probs = codes.unique(return_counts=True)[1].double() / codes.numel()
            values.append(math.exp(-(probs * probs.log()).sum().item()))
        perplexity, expected = out.perplexity.item(), sum(values) / len(values)
        assert math.isclose(perplexity, expected, rel_tol=1e-3), (
            f"{where}: the perplexity is {perplexity:.3f}, but the codes give {expected:.3f}"
        )


def vectors_get_their_nearest_code(build: Build, rank: int) -> None:
    """Every vector is assigned to the entry at the smallest distance, within rounding."""
    for quantizer, z_e, where in iter_modes(build, rank):
        codes = quantizer(z_e).codes
        entries = _get_codebook(quantizer).double()
        for position in itertools.product(range(BATCH_SIZE), *map(range, GRIDS[rank])):
            vector = z_e.movedim(1, -1)[position].double()
            distances = (entries - vector).square().sum(dim=1)
            chosen, best = distances[codes[position]], distances.min()
            assert chosen - best < 1e-4, (
                f"{where}: the vector at {list(position)} got an entry at squared distance "
                f"{chosen:.4f}, but the nearest is at {best:.4f}"
            )


def codes_do_not_depend_on_the_batch(build: Build) -> None:
    """An item gets the same codes alone as in a batch, whatever the other items are. Entries at
    equal distance within rounding may be exchanged.
    """
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    z_e[1] *= 100  # another item with large values
    batched = quantizer(z_e)
    for item in range(BATCH_SIZE):
        single = quantizer(z_e[item : item + 1])
        _assert_same_codes(single.codes[0], batched.codes[item], z_e[item], quantizer, "a batch")


def codes_do_not_depend_on_autocast(build: Build) -> None:
    """Codes and z_q are the same under autocast: the search and z_q stay in float32."""
    quantizer, z_e = build_trained_quantizer(build, rank=2)
    plain = quantizer(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(z_e)
    for name in ("codes", "z_q"):
        one, other = getattr(plain, name), getattr(cast, name)
        assert torch.equal(one, other), (
            f"{format_mismatch(one, other)} values of {name} differ under autocast"
        )


def _assert_same_codes(
    one: Tensor, other: Tensor, z_e: Tensor, quantizer: Quantizer, where: str
) -> None:
    """Raise `AssertionError` if codes `[*grid(, s)]` of an item differ, other than between entries
    at equal distance within 1e-4.
    """
    distances = [
        (quantizer.decode(codes[None])[0] - z_e).double().square().sum(dim=0)
        for codes in (one, other)
    ]
    differ = one != other
    if quantizer.num_codebooks > 1:
        differ = differ.any(dim=-1)
    bad = differ & ((distances[0] - distances[1]).abs() > 1e-4 * (1 + distances[0]))
    assert not bad.any(), f"{int(bad.sum())} codes of an item differ between alone and in {where}"


def _get_codebook(quantizer: Quantizer) -> Tensor:
    """Return the codebook `[K, d]`, by decoding all codes."""
    codes = torch.arange(quantizer.codebook_size)[None]
    return quantizer.decode(codes)[0].T.detach()


def _split_codebooks(quantizer: Quantizer, codes: Tensor) -> Sequence[Tensor]:
    return codes.unbind(-1) if quantizer.num_codebooks > 1 else [codes]
