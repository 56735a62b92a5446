"""Laws of a prior used for entropy coding; see `vqvideo.entropy.PriorCoder`."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from vqvideo.entropy import PriorCoder
from vqvideo.priors import Prior
from vqvideo.testing.grids import GRIDS, SMALL_GRIDS, check_rank, format_mismatch
from vqvideo.testing.laws import build_and_get_name, check_laws
from vqvideo.testing.prior_setup import (
    Build,
    build_noisy_prior,
    iter_priors,
    make_cond,
    make_random_codes,
    select_item,
)

REFERENCE = "vqvideo.entropy.PriorCoder"

CHECKSUM_BYTES, FLUSH_BYTES = 6, 8  # overhead of a segment: two checksums, the coder's final state


def check_entropy_coding(build: Build, rank: int, *, num_codebooks: int = 1) -> None:
    """Check all laws of entropy coding under a prior, on grids of one rank.

    Args:
        build: as for `vqvideo.testing.check_prior`; K is 5.
        rank: a rank that the prior supports.
        num_codebooks: number of codes per position.
    """
    if num_codebooks > 1:
        build = functools.partial(build, num_codebooks=num_codebooks)
    check_rank(rank)
    check_laws(LAWS, build_and_get_name(build, Prior, rank=rank, codebook_size=5), build, rank)


def decoding_restores_the_codes(build: Build, rank: int) -> None:
    """Decoding restores the encoded codes, under every condition and for any batch of items."""
    grid = SMALL_GRIDS[rank]
    for kind, prior in iter_priors(build, rank):
        coder, codes, cond = (
            PriorCoder(prior),
            make_random_codes(prior, 3, grid),
            make_cond(prior, 3, grid),
        )
        segments = coder.encode(codes, cond)
        assert len(segments) == 3, (
            f"rank {rank} under {kind}: 3 items gave {len(segments)} segments"
        )
        for item in (2, 0, 1):
            where = f"rank {rank} under {kind}: item {item}, encoded in a batch of 3,"
            try:
                decoded = coder.decode(segments[item : item + 1], grid, select_item(cond, item))
            except ValueError as error:
                raise AssertionError(f"{where} cannot be decoded alone: {error}") from error
            assert torch.equal(decoded[0], codes[item]), f"{where} has other codes decoded alone"


def frequencies_are_the_same_everywhere(build: Build, rank: int) -> None:
    """Frequencies are the same for any number of threads and in any batch."""
    prior, grid = build_noisy_prior(build, rank), GRIDS[rank]
    coder, codes = PriorCoder(prior), make_random_codes(prior, 5, grid)
    expected, threads = coder.compute_frequencies(codes), torch.get_num_threads()
    _assert_equal(
        expected[3:4], coder.compute_frequencies(codes[3:4]), f"rank {rank}, an item alone"
    )
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        _assert_equal(expected, coder.compute_frequencies(codes), f"rank {rank}, other threads")
    finally:
        torch.set_num_threads(threads)


def the_size_matches_the_prior(build: Build, rank: int) -> None:
    """The size of the codes under the integer frequencies equals -log2 p under the prior, within
    0.1 %. The bytes are these bits plus a small overhead for each segment.
    """
    prior, grid = build_noisy_prior(build, rank), GRIDS[rank]
    coder, codes = PriorCoder(prior), make_random_codes(prior, 4, grid)
    chosen = coder.compute_frequencies(codes).gather(-1, codes[..., None])
    bits = (24 - chosen.log2()).flatten(1).sum(dim=1)
    with torch.no_grad():
        expected = -prior.log_prob(codes) / math.log(2)
    assert ((bits - expected).abs() < 0.01 + 1e-3 * expected).all(), (
        f"rank {rank}: codes take {bits.tolist()} bits, but {expected.tolist()} under the prior"
    )
    for segment, num_bits in zip(coder.encode(codes), bits.tolist(), strict=True):
        limit = num_bits / 8 + CHECKSUM_BYTES + FLUSH_BYTES
        assert len(segment) <= limit, (
            f"rank {rank}: a segment must have at most {limit:.1f} bytes, got {len(segment)}"
        )


LAWS = (
    decoding_restores_the_codes,
    frequencies_are_the_same_everywhere,
    the_size_matches_the_prior,
)


def _assert_equal(one: Tensor, other: Tensor, where: str) -> None:
    assert torch.equal(one, other), f"{where}: {format_mismatch(one, other)} frequencies differ"
