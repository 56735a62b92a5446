"""Laws of a prior that codes are compressed under; see `vqvideo.entropy.PriorCoder`."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from vqvideo.entropy import PriorCoder
from vqvideo.priors import Prior
from vqvideo.testing.grids import GRIDS, SMALL_GRIDS, check_rank, share
from vqvideo.testing.laws import hold, named
from vqvideo.testing.prior_setup import Build, drawn_codes, item_of, of_every_kind, redrawn, told

READ = "vqvideo.entropy.PriorCoder"

CHECKS, FLUSH = 6, 8  # bytes of a segment beyond its codes: two checks, the end of the coder


def check_entropy_coding(build: Build, rank: int, *, num_codebooks: int = 1) -> None:
    """All laws, on grids of one rank.

    Args:
        build: as for `vqvideo.testing.check_prior`; K is 5.
        rank: a rank that the prior supports.
        num_codebooks: codes per position.
    """
    if num_codebooks > 1:
        build = functools.partial(build, num_codebooks=num_codebooks)
    check_rank(rank)
    hold(LAWS, named(build, Prior, rank=rank, codebook_size=5), build, rank)


def codes_come_back(build: Build, rank: int) -> None:
    """Under every condition, whatever items are decoded together."""
    grid = SMALL_GRIDS[rank]
    for kind, prior in of_every_kind(build, rank):
        coder, codes, cond = PriorCoder(prior), drawn_codes(prior, 3, grid), told(prior, 3, grid)
        segments = coder.encode(codes, cond)
        assert len(segments) == 3, f"rank {rank} under {kind}: 3 items gave {len(segments)}"
        for item in (2, 0, 1):
            where = f"rank {rank} under {kind}: item {item}, encoded with two more, decoded alone,"
            try:
                back = coder.decode(segments[item : item + 1], grid, item_of(cond, item))
            except ValueError as error:
                raise AssertionError(f"{where} does not come back: {error}") from error
            assert torch.equal(back[0], codes[item]), f"{where} is not what it was"


def frequencies_are_the_same_everywhere(build: Build, rank: int) -> None:
    """On any number of threads, in any batch."""
    prior, grid = redrawn(build, rank), GRIDS[rank]
    coder, codes = PriorCoder(prior), drawn_codes(prior, 5, grid)
    expected, threads = coder.frequencies(codes), torch.get_num_threads()
    _require_same(expected[3:4], coder.frequencies(codes[3:4]), f"rank {rank}, an item alone")
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        _require_same(expected, coder.frequencies(codes), f"rank {rank}, other threads")
    finally:
        torch.set_num_threads(threads)


def the_size_is_what_the_prior_says(build: Build, rank: int) -> None:
    """By frequencies, codes take the prior's own bits, to 0.1 %; the bytes are those bits and a
    few for each segment.
    """
    prior, grid = redrawn(build, rank), GRIDS[rank]
    coder, codes = PriorCoder(prior), drawn_codes(prior, 4, grid)
    chosen = coder.frequencies(codes).gather(-1, codes[..., None])
    bits = (24 - chosen.log2()).flatten(1).sum(dim=1)
    with torch.no_grad():
        own = -prior.log_prob(codes) / math.log(2)
    assert ((bits - own).abs() < 0.01 + 1e-3 * own).all(), (
        f"rank {rank}: codes take {bits.tolist()} bits, the prior says {own.tolist()}"
    )
    for segment, exact in zip(coder.encode(codes), bits.tolist(), strict=True):
        most = exact / 8 + CHECKS + FLUSH
        assert len(segment) <= most, f"rank {rank}: {len(segment)} bytes, not at most {most:.1f}"


LAWS = (codes_come_back, frequencies_are_the_same_everywhere, the_size_is_what_the_prior_says)


def _require_same(one: Tensor, other: Tensor, where: str) -> None:
    assert torch.equal(one, other), f"{where}: {share(one, other)} frequencies differ"
