"""The priors that laws are checked on, and what they are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

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


def with_conditions(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """A prior for each kind of condition, none if the builder has no option `cond`; one that
    refuses a kind by `ValueError` is not asked about it.
    """
    if "cond" not in inspect.signature(build).parameters:
        return
    for kind, spec in KINDS.items():
        try:
            prior = redrawn(build, rank, cond=spec)
        except ValueError:
            continue
        yield kind, prior


def of_every_kind(build: Build, rank: int) -> Iterator[tuple[str, Prior]]:
    """A prior that is told nothing, then one for each kind of condition that it takes."""
    yield "no condition", redrawn(build, rank)
    yield from with_conditions(build, rank)


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
