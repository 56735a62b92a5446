"""The priors that laws are checked on, with codes and conditions for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior

Build = Callable[..., Prior]

MAX_TRIALS = 8  # inactive units can hide a dependency for one sample of weights, hardly for eight

# Two actions per code, so that confusing one with the other is detected.
COND_SPECS = {
    "class_id": CondSpec(num_classes=3),
    "speaker": CondSpec(num_speakers=2),
    "discrete actions": CondSpec(num_actions=4, actions_per_code=2),
    "continuous actions": CondSpec(action_dim=3, actions_per_code=2),
    "local": CondSpec(local_channels=2),
    "all conditions": CondSpec(
        num_classes=3, num_speakers=2, num_actions=4, actions_per_code=2, local_channels=2
    ),
}


@torch.no_grad()
def build_noisy_prior(
    build: Build, rank: int, codebook_size: int = 5, cond: CondSpec | None = None, trial: int = 0
) -> Prior:
    """Build a prior in float64 and evaluation mode, with noise from N(0, 0.3^2) on every parameter.

    The noise is added, not substituted: otherwise most units behind a norm would be inactive for
    most codes.
    """
    torch.manual_seed(rank + 10 * trial)
    kwargs = {} if cond is None or cond.is_empty else {"cond": cond}
    prior = build(rank=rank, codebook_size=codebook_size, **kwargs).double().eval()
    for parameter in prior.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return prior


def iter_conditioned_builds(build: Build, rank: int) -> Iterator[tuple[str, Prior | Exception]]:
    """Yield, for each kind of condition, the prior built for it or the error that refused it.

    Yield nothing if the builder has no option `cond`. A builder with `**options` is tried.
    """
    refusal: tuple[type[Exception], ...] = (ValueError,)
    if not has_cond_option(build):
        if not any(o.kind is o.VAR_KEYWORD for o in inspect.signature(build).parameters.values()):
            return
        refusal = (ValueError, TypeError)
    for kind, spec in COND_SPECS.items():
        try:
            result: Prior | Exception = build_noisy_prior(build, rank, cond=spec)
        except refusal as error:
            result = error
        yield kind, result


def has_cond_option(build: Build) -> bool:
    """Return whether a builder has a parameter named `cond`."""
    return "cond" in inspect.signature(build).parameters


def iter_conditioned_priors(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """Yield a prior for each kind of condition that its builder does not refuse."""
    for kind, result in iter_conditioned_builds(build, rank):
        if isinstance(result, Prior):
            yield kind, result


def iter_priors(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """Yield an unconditional prior, then one for each kind of condition that it supports."""
    yield "no condition", build_noisy_prior(build, rank)
    yield from iter_conditioned_priors(build, rank)


def run_seeded(run: Callable[..., Tensor], *args: Any, seed: int = 1) -> Tensor:
    """Call a function after seeding torch, so that dropout is repeatable."""
    torch.manual_seed(seed)
    return run(*args)


def get_code_shape(prior: Prior, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the codes of one item."""
    return (*grid, prior.num_codebooks) if prior.num_codebooks > 1 else grid


def get_group_indices(prior: Prior, grid: tuple[int, ...]) -> Tensor:
    """Return the index `[n]` of the group of each code, in the order of the prior."""
    groups = prior.order(get_code_shape(prior, grid))
    if isinstance(groups, range):
        return torch.tensor(groups)
    indices = torch.zeros(sum(map(len, groups)), dtype=torch.int64)
    for index, group in enumerate(groups):
        indices[group] = index
    return indices


def make_random_codes(prior: Prior, batch: int, grid: tuple[int, ...]) -> Tensor:
    """Return uniformly sampled codes `[b, *grid(, s)]`."""
    return torch.randint(prior.codebook_size, (batch, *get_code_shape(prior, grid)))


def make_cond(prior: Prior, batch: int, grid: tuple[int, ...], seed: int = 0) -> Cond | None:
    """Return random conditions of every kind the prior supports; None for an unconditional one."""
    dtype = next((p.dtype for p in prior.parameters()), torch.float64)
    return make_cond_for_spec(prior.cond, batch, grid, seed, dtype)


def make_cond_for_spec(
    spec: CondSpec, batch: int, grid: tuple[int, ...], seed: int, dtype: torch.dtype
) -> Cond | None:
    """Return random conditions of every kind in the spec; None if the spec is empty."""
    rng = torch.Generator().manual_seed(seed)
    frames = grid[0] * spec.actions_per_code

    def make_ids(num_ids: int, *shape: int) -> Tensor | None:
        return torch.randint(num_ids, shape, generator=rng) if num_ids else None

    def make_floats(channels: int, *shape: int) -> Tensor | None:
        return torch.randn(shape, generator=rng, dtype=dtype) if channels else None

    if spec.is_empty:
        return None
    actions = make_ids(spec.num_actions, batch, frames)
    if spec.action_dim:
        actions = make_floats(spec.action_dim, batch, frames, spec.action_dim)
    return Cond(
        class_id=make_ids(spec.num_classes, batch),
        speaker=make_ids(spec.num_speakers, batch),
        actions=actions,
        local=make_floats(spec.local_channels, batch, spec.local_channels, *grid),
    )


def slice_cond(cond: Cond | None, spec: CondSpec, first: int, last: int) -> Cond | None:
    """Return the conditions of the steps [first, last) along the first axis."""
    if cond is None:
        return None
    per_code = spec.actions_per_code
    return Cond(
        class_id=cond.class_id,
        speaker=cond.speaker,
        actions=None
        if cond.actions is None
        else cond.actions[:, first * per_code : last * per_code],
        local=None if cond.local is None else cond.local[:, :, first:last],
    )


def select_item(cond: Cond | None, item: int) -> Cond | None:
    """Return the conditions of one item of a batch."""
    if cond is None:
        return None
    values = {name: value for name, value in vars(cond).items() if value is not None}
    return Cond(**{name: value[item : item + 1] for name, value in values.items()})
