"""Laws of conditions: each affects its own item only, from its own step on."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior
from vqvideo.sampling import generate
from vqvideo.testing.grids import SMALL_GRIDS, format_mismatch
from vqvideo.testing.prior_setup import (
    COND_SPECS,
    MAX_TRIALS,
    Build,
    build_noisy_prior,
    has_cond_option,
    iter_conditioned_builds,
    iter_conditioned_priors,
    make_cond,
    make_cond_for_spec,
    make_random_codes,
)

REFERENCE = "vqvideo.Cond"


def conditions_are_taken_or_refused(build: Build, rank: int) -> None:
    """A builder with an option `cond` supports at least one kind of condition and refuses the
    others with `ValueError`. The `cond` of the prior lists the conditions it was built for.
    """
    refused = {}
    for kind, result in iter_conditioned_builds(build, rank):
        if isinstance(result, Exception):
            refused[kind] = result
            continue
        actual, expected = result.cond.keys, COND_SPECS[kind].keys
        assert actual == expected, (
            f"rank {rank}: the cond of a prior built for {', '.join(expected)} lists "
            f"{', '.join(actual) or 'nothing'}"
        )
    assert not has_cond_option(build) or len(refused) < len(COND_SPECS), (
        f"rank {rank}: the builder has an option cond but refuses every kind of condition, the "
        f"first with {next(iter(refused.values()))!r}; remove the option if none is supported"
    )


@torch.no_grad()
def unsupported_conditions_are_refused(build: Build, rank: int) -> None:
    """A `Cond` that the prior was not built for raises `ValueError` instead of being ignored."""
    prior, grid = build_noisy_prior(build, rank), SMALL_GRIDS[rank]
    codes = make_random_codes(prior, 2, grid)
    for kind, spec in COND_SPECS.items():
        if set(spec.keys) <= set(prior.cond.keys):
            continue
        try:
            prior.log_prob(codes, make_cond_for_spec(spec, 2, grid, 0, torch.float64))
        except ValueError:
            continue
        raise AssertionError(
            f"rank {rank}: a prior built for {', '.join(prior.cond.keys) or 'no condition'} must "
            f"raise ValueError when given {', '.join(spec.keys)} ({kind}); call Cond.check"
        )


@torch.no_grad()
def every_condition_reaches_the_logits(build: Build, rank: int) -> None:
    """Each condition affects the logits of every step of its own item, and of no other item."""
    grid = SMALL_GRIDS[rank]
    for kind, prior in iter_conditioned_priors(build, rank):
        for name in _to_dict(make_cond(prior, 2, grid)):
            reached = torch.zeros(grid[0], dtype=torch.bool)
            for trial in range(MAX_TRIALS):
                prior = build_noisy_prior(build, rank, cond=prior.cond, trial=trial)
                codes, cond = make_random_codes(prior, 2, grid), make_cond(prior, 2, grid, trial)
                value = _to_dict(cond)[name]
                other = torch.cat([value[:1], _change_value(value[1:], name, prior.cond)])
                logits = prior.logits(codes, cond)
                changed = prior.logits(codes, _replace(cond, name, other)) != logits
                assert not changed[0].any(), (
                    f"rank {rank} under {kind}: {name} of one item changes the logits of another"
                )
                reached |= changed[1].transpose(0, 1).flatten(1).any(dim=1)
                if reached.all():
                    break
            assert reached.all(), (
                f"rank {rank} under {kind}: {name} does not reach the logits of step "
                f"{int((~reached).nonzero()[0])} along the first axis"
            )


@torch.no_grad()
def a_condition_changes_no_earlier_step(build: Build, rank: int) -> None:
    """`actions` and `local` of a step along the first axis affect the logits of that step, and
    leave the logits of earlier steps bitwise the same, since they may not be known there yet.
    """
    grid = SMALL_GRIDS[rank]
    for kind, prior in iter_conditioned_priors(build, rank):
        for name in [
            name for name in _to_dict(make_cond(prior, 1, grid)) if name in ("actions", "local")
        ]:
            per_step = prior.cond.actions_per_code if name == "actions" else 1
            changed = torch.zeros(grid[0] * per_step, grid[0], dtype=torch.bool)
            for trial in range(MAX_TRIALS):
                prior = build_noisy_prior(build, rank, cond=prior.cond, trial=trial)
                changed |= _find_changed_steps(prior, name, grid, trial)
                if changed.repeat_interleave(per_step, 1).diagonal().all():
                    break
            for i, steps in enumerate(changed.tolist()):
                where = f"rank {rank} under {kind}: {name}[{i}], of step {i // per_step},"
                assert True not in steps[: i // per_step], (
                    f"{where} changes the logits of the earlier step {steps.index(True)}"
                )
                assert steps[i // per_step], f"{where} does not change the logits of its own step"


def _find_changed_steps(prior: Prior, name: str, grid: tuple[int, ...], seed: int) -> Tensor:
    """Return bool `[n, t]`: whether entry i of a condition affects the logits of a step."""
    codes, values = make_random_codes(prior, 1, grid), _to_dict(make_cond(prior, 1, grid, seed))
    length = values[name].shape[2 if name == "local" else 1]
    # The condition of item i is changed at index i; both batches have the same size.
    same = Cond(**{key: value.repeat_interleave(length, 0) for key, value in values.items()})
    changed = _to_dict(same)[name].clone()
    for i in range(length):
        entry = changed[i].select(1 if name == "local" else 0, i)
        entry.copy_(_change_value(entry, name, prior.cond))
    repeated = codes.repeat_interleave(length, 0)
    other = prior.logits(repeated, _replace(same, name, changed))
    return (other != prior.logits(repeated, same)).transpose(1, 2).flatten(2).any(dim=2)


def guidance_scale_0_is_unconditional_and_1_is_conditional(build: Build, rank: int) -> None:
    """A conditional prior also runs without the condition: guidance scale 0 gives the unconditional
    sample, 1 the conditional one, and all sampling methods agree above 1.
    """
    grid = SMALL_GRIDS[rank]
    for kind, prior in iter_conditioned_priors(build, rank):
        cond, where = make_cond(prior, 3, grid), f"rank {rank} under {kind}"
        unconditional = generate(prior, grid, batch=3, seed=1)
        conditional = generate(prior, grid, batch=3, seed=1, cond=cond)
        zero, one = (
            generate(prior, grid, batch=3, seed=1, cond=cond, guidance_scale=scale)
            for scale in (0, 1)
        )
        for scale, actual, expected, label in (
            (0, zero, unconditional, "an unconditional"),
            (1, one, conditional, "the conditional"),
        ):
            assert torch.equal(actual, expected), (
                f"{where}: guidance scale {scale} does not give {label} sample: "
                f"{format_mismatch(actual, expected)} codes differ"
            )
        auto, fixed_point = (
            generate(prior, grid, batch=3, seed=1, cond=cond, guidance_scale=2.5, method=method)
            for method in ("auto", "fixed_point")
        )
        assert torch.equal(auto, fixed_point), (
            f"{where}: auto and fixed-point sampling differ under guidance in "
            f"{format_mismatch(auto, fixed_point)} codes"
        )


def _to_dict(cond: Cond | None) -> dict[str, Tensor]:
    """Return the values of a condition that are not None, by name."""
    assert cond is not None, "a conditional prior needs a condition"
    return {name: value for name, value in vars(cond).items() if value is not None}


def _replace(cond: Cond | None, name: str, value: Tensor) -> Cond:
    return Cond(**{**_to_dict(cond), name: value})


def _change_value(value: Tensor, name: str, spec: CondSpec) -> Tensor:
    """Return a valid value of a condition that differs in every element."""
    if value.is_floating_point():
        return value + 1
    sizes = {"class_id": spec.num_classes, "speaker": spec.num_speakers}
    return (value + 1) % sizes.get(name, spec.num_actions)
