"""Laws of streams and of side effects of sampling."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.priors import Prior
from vqvideo.sampling import generate, stream
from vqvideo.testing.grids import SMALL_GRIDS, TINY_GRIDS, find_differences, format_mismatch
from vqvideo.testing.prior_setup import (
    Build,
    build_noisy_prior,
    iter_priors,
    make_cond,
    make_random_codes,
    slice_cond,
)

REFERENCE = "vqvideo.sampling.stream"

NUM_STEPS, NUM_KNOWN, BATCH_SIZE = 5, 2, 16


def a_stream_matches_the_longer_grid(build: Build, rank: int) -> None:
    """`stream` yields the steps of `generate` on a longer grid, also with conditions given step by
    step and after known first steps. (Only a prior without a receptive field may refuse, with
    `ValueError`.)
    """
    for kind, prior in iter_priors(build, rank):
        grid = (NUM_STEPS, *SMALL_GRIDS[rank][1:])
        cond = make_cond(prior, BATCH_SIZE, grid)
        if prior.init_state(1, grid, None) is None:
            return
        full_codes = generate(prior, grid, batch=BATCH_SIZE, cond=cond, seed=3)
        for known in (0, NUM_KNOWN):
            steps = _stream_steps(prior, full_codes, known, cond)
            for index in range(known, NUM_STEPS):
                try:
                    step = next(steps)
                except ValueError:
                    if index == known or prior.receptive_field is not None:
                        raise
                    return
                assert torch.equal(step, full_codes[:, index]), (
                    f"rank {rank} under {kind}: step {index} of a stream, of which {known} were "
                    f"known, differs from the longer grid in "
                    f"{format_mismatch(step, full_codes[:, index])} codes"
                )
            assert cond is None or next(steps, None) is None, (
                "a stream must end where its conditions end"
            )


def _stream_steps(prior: Prior, codes: Tensor, known: int, cond: Cond | None) -> Iterator[Tensor]:
    """Stream the steps after the first `known` ones of a grid, with conditions step by step."""
    return stream(
        prior,
        SMALL_GRIDS[prior.rank][1:],
        batch=BATCH_SIZE,
        known=codes[:, :known] if known else None,
        cond=slice_cond(cond, prior.cond, 0, known) if known else None,
        conds=None
        if cond is None
        else [slice_cond(cond, prior.cond, i, i + 1) or cond for i in range(known, NUM_STEPS)],
        seed=3,
    )


def sampling_leaves_no_trace(build: Build, rank: int) -> None:
    """Sampling and streaming change no weight, no buffer, no training mode and not the global
    random state of torch. A deep copy of the prior gives the same logits.
    """
    prior = build_noisy_prior(build, rank).train()
    grid = TINY_GRIDS[rank]
    before, random_state = copy.deepcopy(prior.state_dict()), torch.get_rng_state()
    modes = [module.training for module in prior.modules()]

    def assert_no_trace(operation: str) -> None:
        assert torch.equal(random_state, torch.get_rng_state()), (
            f"{operation} used the global random generator of torch"
        )
        assert modes == [module.training for module in prior.modules()], (
            f"{operation} changed the training mode of the prior"
        )
        after = prior.state_dict()
        assert after.keys() == before.keys(), (
            f"{operation} added {', '.join(after.keys() ^ before.keys())} to the state_dict, or "
            f"removed it"
        )
        changed = find_differences(before, after)
        assert not changed, f"{operation} changed {', '.join(changed)}"

    first = generate(prior, grid, seed=1)
    assert_no_trace("sampling")
    assert torch.equal(first, generate(prior, grid, seed=1)), (
        "sampling is not repeatable with the same seed"
    )
    if prior.init_state(1, grid, None) is not None:
        for _ in itertools.islice(stream(prior, grid[1:]), grid[0]):
            assert_no_trace("streaming")
    codes = make_random_codes(prior.eval(), 2, grid)
    with torch.no_grad():
        one, other = prior.logits(codes), copy.deepcopy(prior).logits(codes)
    assert torch.equal(one, other), "a copy of the prior gives other logits"
