"""Laws of streams, and that drawing codes leaves no trace."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.priors import Prior
from vqvideo.sampling import generate, stream
from vqvideo.testing.grids import SMALL_GRIDS, TINY_GRIDS, differing, share
from vqvideo.testing.prior_setup import Build, drawn_codes, of_every_kind, redrawn, told, told_of

READ = "vqvideo.sampling.stream"

STEPS, KNOWN, BATCH = 5, 2, 16


def a_stream_is_the_longer_grid(build: Build, rank: int) -> None:
    """`stream` gives the steps of `generate` on a longer grid, also with conditions told step by
    step, and behind known first steps. (Only a prior without a receptive field may refuse, by
    `ValueError`.)
    """
    for kind, prior in of_every_kind(build, rank):
        grid = (STEPS, *SMALL_GRIDS[rank][1:])
        cond = told(prior, BATCH, grid)
        if prior.start(1, grid, None) is None:
            return
        whole = generate(prior, grid, batch=BATCH, cond=cond, seed=3)
        for known in (0, KNOWN):
            steps = _steps(prior, whole, known, cond)
            for number in range(known, STEPS):
                try:
                    step = next(steps)
                except ValueError:
                    if number == known or prior.receptive_field is not None:
                        raise
                    return
                assert torch.equal(step, whole[:, number]), (
                    f"rank {rank} under {kind}: step {number} of a stream, of which {known} were "
                    f"known, is not that of the longer grid: {share(step, whole[:, number])} "
                    f"codes differ"
                )
            assert cond is None or next(steps, None) is None, "a stream outlives its conditions"


def _steps(prior: Prior, whole: Tensor, known: int, cond: Cond | None) -> Iterator[Tensor]:
    """A stream behind the first `known` steps of a grid, told of each step as it begins."""
    return stream(
        prior,
        SMALL_GRIDS[prior.rank][1:],
        batch=BATCH,
        known=whole[:, :known] if known else None,
        cond=told_of(cond, prior.cond, 0, known) if known else None,
        conds=None
        if cond is None
        else [told_of(cond, prior.cond, i, i + 1) or cond for i in range(known, STEPS)],
        seed=3,
    )


def sampling_leaves_no_trace(build: Build, rank: int) -> None:
    """Sampling and streaming change no weight, no buffer, no mode and not torch's random numbers;
    a copy of the prior gives the same logits.
    """
    prior = redrawn(build, rank).train()
    grid = TINY_GRIDS[rank]
    before, random_state = copy.deepcopy(prior.state_dict()), torch.get_rng_state()
    modes = [module.training for module in prior.modules()]

    def require_no_trace(what: str) -> None:
        assert torch.equal(random_state, torch.get_rng_state()), f"{what} used torch's generator"
        assert modes == [module.training for module in prior.modules()], (
            f"{what} left the prior in another mode"
        )
        after = prior.state_dict()
        assert after.keys() == before.keys(), (
            f"{what} put {', '.join(after.keys() ^ before.keys())} into the state_dict, or took it"
        )
        changed = differing(before, after)
        assert not changed, f"{what} changed {', '.join(changed)}"

    first = generate(prior, grid, seed=1)
    require_no_trace("sampling")
    assert torch.equal(first, generate(prior, grid, seed=1)), "a seed does not repeat"
    if prior.start(1, grid, None) is not None:
        for _ in itertools.islice(stream(prior, grid[1:]), grid[0]):
            require_no_trace("streaming")
    codes = drawn_codes(prior.eval(), 2, grid)
    with torch.no_grad():
        one, other = prior.logits(codes), copy.deepcopy(prior).logits(codes)
    assert torch.equal(one, other), "a copy of the prior gives other logits"
