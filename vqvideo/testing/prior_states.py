"""Laws of the streaming state of a prior: stepping gives the same logits as one `logits` call."""

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
    build_noisy_prior,
    iter_conditioned_priors,
    iter_priors,
    make_cond,
    make_random_codes,
    slice_cond,
)

REFERENCE = "vqvideo.sampling.PriorState"

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}  # for logits of about 1


@torch.no_grad()
def stepping_matches_the_full_logits(build: Build, rank: int) -> None:
    """The state, pushed code by code, gives the logits of a single `logits` call, also if the
    logits of earlier positions were not queried.
    """
    prior = build_noisy_prior(build, rank)
    if prior.init_state(2, GRIDS[rank], None) is None:
        return
    for query_every in (1, 3):
        _check_interleaved_states(prior, GRIDS[rank], f"rank {rank}", query_every)
    _check_interleaved_states(prior.float(), GRIDS[rank], f"rank {rank} in float32", 1)


@torch.no_grad()
def stepping_matches_the_full_logits_under_every_condition(build: Build, rank: int) -> None:
    """The state of a conditional prior, pushed code by code, gives the logits of a single `logits`
    call, under every condition.
    """
    for kind, prior in iter_conditioned_priors(build, rank):
        for dtype, query_every in ((torch.float64, 3), (torch.float32, 1)):
            where = f"rank {rank} in {dtype} under {kind}"
            _check_interleaved_states(prior.to(dtype), SMALL_GRIDS[rank], where, query_every)


def _check_interleaved_states(
    prior: Prior, grid: tuple[int, ...], where: str, query_every: int
) -> None:
    """Check that two states of one prior, for different codes and conditions, are independent."""
    codes = [make_random_codes(prior, 2, grid) for _ in range(2)]
    conds = [make_cond(prior, 2, grid, seed) for seed in range(2)]
    states = [init_state(prior, 2, grid, cond) for cond in conds]
    logits = [prior.logits(*args) for args in zip(codes, conds, strict=True)]
    _assert_steps_match(states, codes, logits, where, query_every=query_every)


@torch.no_grad()
def a_prefilled_state_continues_as_a_stepped_one(build: Build, rank: int) -> None:
    """After `prefill` of any number of positions, the state gives the logits of a single `logits`
    call, under every condition.
    """
    grid = SMALL_GRIDS[rank]
    total, row, step = math.prod(grid), grid[-1] if rank > 1 else 1, math.prod(grid[1:])
    for kind, prior in iter_priors(build, rank):
        cond, codes = make_cond(prior, 2, grid), make_random_codes(prior, 2, grid)
        if prior.init_state(2, grid, cond) is None:
            return
        full_logits = prior.logits(codes, cond)
        lengths = {1, row - 1, row, row + 1, step - 1, step, step + 1, 2 * step, total - 1, total}
        for num_positions in sorted(lengths - {0}):
            state = init_state(prior, 2, grid, cond)
            state.prefill(codes, num_positions)
            where = f"rank {rank} under {kind}, after prefill of {num_positions} positions,"
            first = num_positions * prior.num_codebooks
            _assert_steps_match([state], [codes], [full_logits], where, first, query_every=2)


@torch.no_grad()
def a_state_continues_beyond_its_grid(build: Build, rank: int) -> None:
    """A state initialized for two steps along the first axis, and given the conditions of further
    steps, gives the logits of the longer grid. (Only a prior without a receptive field may refuse,
    with `ValueError`.)
    """
    inner = SMALL_GRIDS[rank][1:]
    grid = (6, *inner)
    for kind, prior in iter_priors(build, rank):
        cond, codes = make_cond(prior, 2, grid), make_random_codes(prior, 2, grid)
        beginning = slice_cond(cond, prior.cond, 0, 2)
        if prior.init_state(2, (2, *inner), beginning) is None:
            return
        full_logits, per_step = prior.logits(codes, cond).flatten(2), codes[0, 0].numel()
        for query_every in (1, 4):
            state, where = init_state(prior, 2, (2, *inner), beginning), f"rank {rank} under {kind}"
            for first, last in ((0, 2), (2, 3), (3, 6)):
                try:
                    if first and cond is not None:
                        state.set_condition(slice_cond(cond, prior.cond, first, last), last - first)
                    logits = full_logits[..., : last * per_step]
                    _assert_steps_match(
                        [state], [codes], [logits], where, first * per_step, query_every
                    )
                except ValueError:
                    if not first or prior.receptive_field is not None:
                        raise
                    return
                where = f"rank {rank} under {kind}, beyond its grid,"


def init_state(prior: Prior, batch: int, grid: tuple[int, ...], cond: object) -> PriorState:
    """Return the state of a prior; raise `AssertionError` if it has none."""
    state = prior.init_state(batch, grid, cond)  # type: ignore[arg-type]
    assert state is not None, "a prior must have a state under all conditions or under none"
    return state


def _assert_steps_match(
    states: Sequence[PriorState],
    codes: Sequence[Tensor],
    logits: Sequence[Tensor],
    where: str,
    first: int = 0,
    query_every: int = 1,
) -> None:
    """Raise `AssertionError` unless states, pushed alternately from code `first` on, give the
    expected logits `[b, K, *grid(, s)]`.
    """
    flat = [expected.flatten(2) for expected in logits]
    tolerance = TOLERANCES[flat[0].dtype] * max(
        1.0, *(expected.abs().max().item() for expected in flat), 1.0
    )
    for i in range(first, flat[0].shape[2]):
        for state, item_codes, expected in zip(states, codes, flat, strict=True):
            if i % query_every == 0:
                difference = (state.logits() - expected[..., i]).abs().max().item()
                assert difference < tolerance, (
                    f"{where} stepping differs from the full logits by {difference:.1e} at "
                    f"position {i}, with logits queried every {query_every} positions"
                )
            state.push(item_codes.flatten(1)[:, i])
