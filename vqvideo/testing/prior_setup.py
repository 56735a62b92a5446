"""The priors that laws are checked on, and what they are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior

Build = Callable[..., Prior]

DRAWS = 8  # a unit that is cut off can hide a path for one draw of weights, hardly for eight

# Two actions per code, so that one mistaken for the other shows.
KINDS = {
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
def redrawn(
    build: Build, rank: int, codebook_size: int = 5, cond: CondSpec | None = None, draw: int = 0
) -> Prior:
    """A prior in float64 and evaluation mode, with noise from N(0, 0.3^2) on every parameter.

    (Drawn from that noise alone, most units behind a norm would be cut off for most codes.)
    """
    torch.manual_seed(rank + 10 * draw)
    given = {} if cond is None or cond.is_empty else {"cond": cond}
    prior = build(rank=rank, codebook_size=codebook_size, **given).double().eval()
    for parameter in prior.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return prior


def asked_for_conditions(build: Build, rank: int) -> Iterator[tuple[str, Prior | Exception]]:
    """For each kind of condition the prior that is built for it, or the error by which it was
    refused; nothing if the builder has no option `cond`. Of a builder with `**options` only a try
    says whether it has.
    """
    refusal: tuple[type[Exception], ...] = (ValueError,)
    if not says_cond(build):
        if not any(o.kind is o.VAR_KEYWORD for o in inspect.signature(build).parameters.values()):
            return
        refusal = (ValueError, TypeError)
    for kind, spec in KINDS.items():
        try:
            found: Prior | Exception = redrawn(build, rank, cond=spec)
        except refusal as error:
            found = error
        yield kind, found


def says_cond(build: Build) -> bool:
    """Whether a builder names an option `cond`."""
    return "cond" in inspect.signature(build).parameters


def with_conditions(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """A prior for each kind of condition that its builder does not refuse."""
    for kind, found in asked_for_conditions(build, rank):
        if isinstance(found, Prior):
            yield kind, found


def of_every_kind(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """A prior that is told nothing, then one for each kind of condition that it takes."""
    yield "no condition", redrawn(build, rank)
    yield from with_conditions(build, rank)


def seeded(run: Callable[..., Tensor], *given: Any, seed: int = 1) -> Tensor:
    """What comes out if torch draws from this seed, as dropout does."""
    torch.manual_seed(seed)
    return run(*given)


def shape_of(prior: Prior, grid: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the codes of one item."""
    return (*grid, prior.num_codebooks) if prior.num_codebooks > 1 else grid


def drawn_codes(prior: Prior, batch: int, grid: tuple[int, ...]) -> Tensor:
    """Codes `[b, *grid(, s)]`, all equally probable."""
    return torch.randint(prior.codebook_size, (batch, *shape_of(prior, grid)))


def told(prior: Prior, batch: int, grid: tuple[int, ...], seed: int = 0) -> Cond | None:
    """All that the prior can be told of a grid, at random; None if that is nothing."""
    dtype = next((p.dtype for p in prior.parameters()), torch.float64)
    return told_by(prior.cond, batch, grid, seed, dtype)


def told_by(
    spec: CondSpec, batch: int, grid: tuple[int, ...], seed: int, dtype: torch.dtype
) -> Cond | None:
    """All that a part of this spec can be told of a grid, at random; None if that is nothing."""
    draw = torch.Generator().manual_seed(seed)
    frames = grid[0] * spec.actions_per_code

    def ids(number: int, *shape: int) -> Tensor | None:
        return torch.randint(number, shape, generator=draw) if number else None

    def floats(channels: int, *shape: int) -> Tensor | None:
        return torch.randn(shape, generator=draw, dtype=dtype) if channels else None

    if spec.is_empty:
        return None
    actions = ids(spec.num_actions, batch, frames)
    if spec.action_dim:
        actions = floats(spec.action_dim, batch, frames, spec.action_dim)
    return Cond(
        class_id=ids(spec.num_classes, batch),
        speaker=ids(spec.num_speakers, batch),
        actions=actions,
        local=floats(spec.local_channels, batch, spec.local_channels, *grid),
    )


def told_of(cond: Cond | None, spec: CondSpec, first: int, last: int) -> Cond | None:
    """What a condition says of the steps [first, last) along the first axis."""
    if cond is None:
        return None
    each = spec.actions_per_code
    return Cond(
        class_id=cond.class_id,
        speaker=cond.speaker,
        actions=None if cond.actions is None else cond.actions[:, first * each : last * each],
        local=None if cond.local is None else cond.local[:, :, first:last],
    )


def item_of(cond: Cond | None, item: int) -> Cond | None:
    """What a batch is told of one item."""
    if cond is None:
        return None
    given = {name: value for name, value in vars(cond).items() if value is not None}
    return Cond(**{name: value[item : item + 1] for name, value in given.items()})
