"""Laws of the step-by-step form of a prior: it gives the logits that `logits` gives at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.priors import Prior
from vqvideo.sampling import PriorState
from vqvideo.testing.grids import GRIDS, SMALL_GRIDS
from vqvideo.testing.prior_setup import (
    Build,
    drawn_codes,
    of_every_kind,
    redrawn,
    told,
    told_of,
    with_conditions,
)

READ = "vqvideo.sampling.PriorState"

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # for logits of about 1


@torch.no_grad()
def stepping_gives_the_logits_of_the_whole(build: Build, rank: int) -> None:
    """The state, pushed code by code, gives the logits that `logits` gives at once, also where
    nobody asked for the logits of the positions before.
    """
    prior = redrawn(build, rank)
    if prior.start(2, GRIDS[rank], None) is None:
        return
    for asked_every in (1, 3):
        _two_states_in_turn(prior, GRIDS[rank], f"rank {rank}", asked_every)
    _two_states_in_turn(prior.float(), GRIDS[rank], f"rank {rank} in float32", 1)


@torch.no_grad()
def stepping_gives_the_logits_of_the_whole_under_every_condition(build: Build, rank: int) -> None:
    """The same for a prior that is told something, whatever that is."""
    for kind, prior in with_conditions(build, rank):
        for dtype, asked_every in ((torch.float64, 3), (torch.float32, 1)):
            where = f"rank {rank} in {dtype} under {kind}"
            _two_states_in_turn(prior.to(dtype), SMALL_GRIDS[rank], where, asked_every)


def _two_states_in_turn(prior: Prior, grid: tuple[int, ...], where: str, asked_every: int) -> None:
    """Of one prior, for different codes and conditions: neither notices the other."""
    codes = [drawn_codes(prior, 2, grid) for _ in range(2)]
    conds = [told(prior, 2, grid, seed) for seed in range(2)]
    states = [start(prior, 2, grid, cond) for cond in conds]
    wholes = [prior.logits(*given) for given in zip(codes, conds, strict=True)]
    _require_steps(states, codes, wholes, where, asked_every=asked_every)


@torch.no_grad()
def a_prefilled_state_goes_on_as_a_stepped_one(build: Build, rank: int) -> None:
    """After `prefill` of any number of positions the state gives the logits of the whole, under
    every condition.
    """
    grid = SMALL_GRIDS[rank]
    total, row, step = math.prod(grid), grid[-1] if rank > 1 else 1, math.prod(grid[1:])
    for kind, prior in of_every_kind(build, rank):
        cond, codes = told(prior, 2, grid), drawn_codes(prior, 2, grid)
        if prior.start(2, grid, cond) is None:
            return
        whole = prior.logits(codes, cond)
        lengths = {1, row - 1, row, row + 1, step - 1, step, step + 1, 2 * step, total - 1, total}
        for positions in sorted(lengths - {0}):
            state = start(prior, 2, grid, cond)
            state.prefill(codes, positions)
            where = f"rank {rank} under {kind}, after prefill of {positions} positions,"
            first = positions * prior.num_codebooks
            _require_steps([state], [codes], [whole], where, first, asked_every=2)


@torch.no_grad()
def a_state_goes_on_beyond_its_grid(build: Build, rank: int) -> None:
    """A state started for two steps along the first axis, and told of those that follow, gives
    the logits of the longer grid. (Only a prior without a receptive field may refuse, by
    `ValueError`.)
    """
    inner = SMALL_GRIDS[rank][1:]
    grid = (6, *inner)
    for kind, prior in of_every_kind(build, rank):
        cond, codes = told(prior, 2, grid), drawn_codes(prior, 2, grid)
        beginning = told_of(cond, prior.cond, 0, 2)
        if prior.start(2, (2, *inner), beginning) is None:
            return
        whole, each = prior.logits(codes, cond).flatten(2), codes[0, 0].numel()
        for asked_every in (1, 4):
            state, where = start(prior, 2, (2, *inner), beginning), f"rank {rank} under {kind}"
            for first, last in ((0, 2), (2, 3), (3, 6)):
                try:
                    if first and cond is not None:
                        state.tell(told_of(cond, prior.cond, first, last), last - first)
                    until = whole[..., : last * each]
                    _require_steps([state], [codes], [until], where, first * each, asked_every)
                except ValueError:
                    if not first or prior.receptive_field is not None:
                        raise
                    return
                where = f"rank {rank} under {kind}, beyond its grid,"


def start(prior: Prior, batch: int, grid: tuple[int, ...], cond: object) -> PriorState:
    """The state of a prior that is known to have one."""
    state = prior.start(batch, grid, cond)  # type: ignore[arg-type]
    assert state is not None, "a prior must have a state under all conditions or under none"
    return state


def _require_steps(
    states: Sequence[PriorState],
    codes: Sequence[Tensor],
    wholes: Sequence[Tensor],
    where: str,
    first: int = 0,
    asked_every: int = 1,
) -> None:
    """States that stand before code `first`, pushed in turn, give the logits of their wholes."""
    flat = [whole.flatten(2) for whole in wholes]
    close = CLOSE[flat[0].dtype] * max(1.0, *(whole.abs().max().item() for whole in flat), 1.0)
    for i in range(first, flat[0].shape[2]):
        for state, given, whole in zip(states, codes, flat, strict=True):
            if i % asked_every == 0:
                difference = (state.logits() - whole[..., i]).abs().max().item()
                assert difference < close, (
                    f"{where} stepping differs from the whole by {difference:.1e} at position {i}, "
                    f"asked at every {asked_every}"
                )
            state.push(given.flatten(1)[:, i])
