"""Laws of conditions: each is heard, by its own item, from its own step on."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior
from vqvideo.sampling import generate
from vqvideo.testing.grids import SMALL_GRIDS, share
from vqvideo.testing.prior_setup import (
    DRAWS,
    KINDS,
    Build,
    asked_for_conditions,
    drawn_codes,
    redrawn,
    says_cond,
    told,
    told_by,
    with_conditions,
)

READ = "vqvideo.Cond"


def conditions_are_taken_or_refused(build: Build, rank: int) -> None:
    """A builder with an option `cond` takes some kind of condition, refuses the others by
    `ValueError`, and builds a prior whose `cond` says what it takes.
    """
    refused = {}
    for kind, found in asked_for_conditions(build, rank):
        if isinstance(found, Exception):
            refused[kind] = found
            continue
        takes, asked = found.cond.takes, KINDS[kind].takes
        assert takes == asked, (
            f"rank {rank}: built to be told {', '.join(asked)}, it says that it takes "
            f"{', '.join(takes) or 'nothing'}"
        )
    assert not says_cond(build) or len(refused) < len(KINDS), (
        f"rank {rank}: its builder has an option cond and refuses every kind of condition, the "
        f"first by {next(iter(refused.values()))!r}; one that takes none has no such option"
    )


@torch.no_grad()
def what_it_cannot_be_told_is_refused(build: Build, rank: int) -> None:
    """A `Cond` that a prior was not built to take raises `ValueError`, lest it be thought heard."""
    prior, grid = redrawn(build, rank), SMALL_GRIDS[rank]
    codes = drawn_codes(prior, 2, grid)
    for kind, spec in KINDS.items():
        if set(spec.takes) <= set(prior.cond.takes):
            continue
        try:
            prior.log_prob(codes, told_by(spec, 2, grid, 0, torch.float64))
        except ValueError:
            continue
        raise AssertionError(
            f"rank {rank}: built to be told {', '.join(prior.cond.takes) or 'nothing'}, it is told "
            f"{', '.join(spec.takes)} ({kind}) and raises no ValueError; Cond.check does"
        )


@torch.no_grad()
def every_condition_reaches_the_logits(build: Build, rank: int) -> None:
    """Each condition changes the logits of each step of the item that it belongs to, and of no
    other item.
    """
    grid = SMALL_GRIDS[rank]
    for kind, prior in with_conditions(build, rank):
        for name in _given(told(prior, 2, grid)):
            heard = torch.zeros(grid[0], dtype=torch.bool)
            for draw in range(DRAWS):
                prior = redrawn(build, rank, cond=prior.cond, draw=draw)
                codes, cond = drawn_codes(prior, 2, grid), told(prior, 2, grid, draw)
                value = _given(cond)[name]
                other = torch.cat([value[:1], _another(value[1:], name, prior.cond)])
                logits = prior.logits(codes, cond)
                changed = prior.logits(codes, _replaced(cond, name, other)) != logits
                assert not changed[0].any(), (
                    f"rank {rank} under {kind}: {name} of one item changes the logits of another"
                )
                heard |= changed[1].transpose(0, 1).flatten(1).any(dim=1)
                if heard.all():
                    break
            assert heard.all(), (
                f"rank {rank} under {kind}: {name} does not reach the logits of step "
                f"{int((~heard).nonzero()[0])} along the first axis"
            )


@torch.no_grad()
def what_is_told_of_a_step_changes_none_before(build: Build, rank: int) -> None:
    """What actions and local say of a step along the first axis changes logits of that step, and
    to the bit none of the steps before, for which it may not be known yet.
    """
    grid = SMALL_GRIDS[rank]
    for kind, prior in with_conditions(build, rank):
        for name in [name for name in _given(told(prior, 1, grid)) if name in ("actions", "local")]:
            each = prior.cond.actions_per_code if name == "actions" else 1
            changed = torch.zeros(grid[0] * each, grid[0], dtype=torch.bool)
            for draw in range(DRAWS):
                prior = redrawn(build, rank, cond=prior.cond, draw=draw)
                changed |= _steps_changed(prior, name, grid, draw)
                if changed.repeat_interleave(each, 1).diagonal().all():
                    break
            for i, steps in enumerate(changed.tolist()):
                where = f"rank {rank} under {kind}: {name} number {i}, of step {i // each},"
                assert True not in steps[: i // each], (
                    f"{where} changes the logits of step {steps.index(True)}, which comes before"
                )
                assert steps[i // each], f"{where} does not change the logits of its own step"


def _steps_changed(prior: Prior, name: str, grid: tuple[int, ...], seed: int) -> Tensor:
    """Bool `[n, t]`: in which steps logits change when number i of a condition does."""
    codes, given = drawn_codes(prior, 1, grid), _given(told(prior, 1, grid, seed))
    number = given[name].shape[2 if name == "local" else 1]
    # Item i is told something else in place i; both batches have the same size.
    same = Cond(**{key: value.repeat_interleave(number, 0) for key, value in given.items()})
    moved = _given(same)[name].clone()
    for i in range(number):
        place = moved[i].select(1 if name == "local" else 0, i)
        place.copy_(_another(place, name, prior.cond))
    every = codes.repeat_interleave(number, 0)
    other = prior.logits(every, _replaced(same, name, moved))
    return (other != prior.logits(every, same)).transpose(1, 2).flatten(2).any(dim=2)


def guidance_goes_from_no_condition_to_the_condition(build: Build, rank: int) -> None:
    """A prior made for a condition also runs without; guidance 0 is that, guidance 1 the
    condition, and past that the state and the whole still agree.
    """
    grid = SMALL_GRIDS[rank]
    for kind, prior in with_conditions(build, rank):
        cond, where = told(prior, 3, grid), f"rank {rank} under {kind}"
        free = generate(prior, grid, batch=3, seed=1)
        under = generate(prior, grid, batch=3, seed=1, cond=cond)
        zero, one = (
            generate(prior, grid, batch=3, seed=1, cond=cond, guidance=guidance)
            for guidance in (0, 1)
        )
        for guidance, found, expected, how in (
            (0, zero, free, "without a"),
            (1, one, under, "under the"),
        ):
            assert torch.equal(found, expected), (
                f"{where}: guidance {guidance} is not sampling {how} condition: "
                f"{share(found, expected)} codes differ"
            )
        past, past_full = (
            generate(prior, grid, batch=3, seed=1, cond=cond, guidance=2.5, method=method)
            for method in ("auto", "fixed_point")
        )
        assert torch.equal(past, past_full), (
            f"{where}: auto and fixed-point sampling differ under guidance in "
            f"{share(past, past_full)} codes"
        )


def _given(cond: Cond | None) -> dict[str, Tensor]:
    """What a condition holds, by name."""
    assert cond is not None, "a prior that takes conditions was told none"
    return {name: value for name, value in vars(cond).items() if value is not None}


def _replaced(cond: Cond | None, name: str, value: Tensor) -> Cond:
    return Cond(**{**_given(cond), name: value})


def _another(value: Tensor, name: str, spec: CondSpec) -> Tensor:
    """A value that differs everywhere."""
    if value.is_floating_point():
        return value + 1
    sizes = {"class_id": spec.num_classes, "speaker": spec.num_speakers}
    return (value + 1) % sizes.get(name, spec.num_actions)
