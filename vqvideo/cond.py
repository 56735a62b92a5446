"""Conditioning: what a model is told besides the codes.

`CondSpec` says what a model was built to be told, `Cond` carries the values for one batch.
A model built for a condition also runs without one (`cond=None`), no fake labels needed: it has
learnt to, since some items of every batch are told nothing in training (`CondSpec.dropout`). A
`Cond` that is given must hold everything its model was built for.

Actions are aligned with data frames: `actions[:, j]` is the action that led into frame j, so
frame 0 carries whatever led to it (0, "none", at the start of a recording). With a temporal
stride s, code frame i owns the s actions i*s ... i*s + s - 1, which led into its s data frames:

    data frame      0  1  2  3 | 4  5  6  7 | 8  9 10 11      stride 4
    action led to   0  1  2  3 | 4  5  6  7 | 8  9 10 11
    code frame          0      |     1      |      2

An action reaches all codes of its own code frame and of those that follow, and none before. What
is decided between two code frames must be decided s actions at a time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ACTION = re.compile(r"[^\W\d_](?:[\w -]*[\w-])?")  # what can stand in a list with numbers
SIZES = (
    "num_classes",
    "num_speakers",
    "num_actions",
    "action_dim",
    "actions_per_code",
    "local_channels",
)


@dataclass(frozen=True, kw_only=True)
class CondSpec:
    """Sizes of the conditions a model takes; 0 means it does not take that one.

    Attributes:
        num_classes: classes; `Cond.class_id` lies in [0, num_classes).
        num_speakers: speakers; `Cond.speaker` lies in [0, num_speakers).
        num_actions: discrete actions; `Cond.actions` is int64 `[b, t]`.
        action_dim: length of a continuous action; `Cond.actions` is float `[b, t, action_dim]`.
        actions_per_code: data frames, and so actions, per code frame: the temporal stride.
        local_channels: channels of the map `Cond.local` `[b, c, *grid]`.
        dropout: share of items that are told nothing in training, so that the model learns to do
            without too, as guidance needs.
        class_names, speaker_names, action_names: what the numbers stand for, in their order; empty
            where nobody said. Those of classes and speakers come with the data a model is trained
            on. They stay with the model, so that a number means the same ever after.
    """

    num_classes: int = 0
    num_speakers: int = 0
    num_actions: int = 0
    action_dim: int = 0
    actions_per_code: int = 1
    local_channels: int = 0
    dropout: float = 0.1
    class_names: tuple[str, ...] = ()
    speaker_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
        for name, number in (
            ("class_names", self.num_classes),
            ("speaker_names", self.num_speakers),
            ("action_names", self.num_actions),
        ):
            names = tuple(getattr(self, name))
            object.__setattr__(self, name, names)
            if names and len(names) != number:
                raise ValueError(f"{name} must hold {number} names, one for each, got {names}")
        for name in self.action_names:
            if not _ACTION.fullmatch(name) or self.action_names.count(name) > 1:
                raise ValueError(
                    f"an action's name must begin with a letter, hold letters, digits, blanks, '_' "
                    f"and '-', and be no other's, got {name!r} in {self.action_names}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout!r}")
        if self.num_actions and self.action_dim:
            raise ValueError("actions are discrete (num_actions) or continuous (action_dim)")
        if self.actions_per_code < 1:
            raise ValueError(f"actions_per_code must be at least 1, got {self.actions_per_code}")

    @classmethod
    def of(cls, spec: CondSpec | Mapping[str, Any] | None) -> CondSpec:
        """The spec itself, or the one a plain mapping (from a config) describes."""
        if isinstance(spec, CondSpec):
            return spec
        known = cls.__dataclass_fields__
        for name in spec or {}:
            if name not in known:
                raise ValueError(f"cond has no size {name!r}; it has: {', '.join(known)}")
        return cls(**(spec or {}))

    @property
    def takes_actions(self) -> bool:
        return bool(self.num_actions or self.action_dim)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the conditions of `Cond` that such a model takes.

        >>> CondSpec(num_speakers=3).takes
        ('speaker',)
        """
        wanted = {
            "class_id": self.num_classes,
            "speaker": self.num_speakers,
            "actions": self.takes_actions,
            "local": self.local_channels,
        }
        return tuple(name for name, taken in wanted.items() if taken)

    @property
    def actions_called(self) -> tuple[str, ...]:
        """What numbered actions are called, "action 0" and so on where nobody said.

        >>> CondSpec(num_actions=2).actions_called
        ('action 0', 'action 1')
        """
        return self.action_names or tuple(f"action {i}" for i in range(self.num_actions))

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What the numbers of a condition stand for, where that is known."""
        return {"class_id": self.class_names, "speaker": self.speaker_names}

    def number(self, condition: str, name: str) -> int:
        """The number of a class or speaker that a model of this spec knows by name.

        Args:
            condition: "class_id" or "speaker".
            name: of it.

        Raises:
            ValueError: it knows none of that name; the message lists those it knows.

        >>> CondSpec(num_speakers=2, speaker_names=("ann", "bob")).number("speaker", "bob")
        1
        """
        known = self.names[condition]
        kind = {"class_id": "class", "speaker": "speaker"}[condition]
        if name in known:
            return known.index(name)
        if not known:
            raise ValueError(
                f"this model knows no {kind} by name; train one with --tell {kind} on data that "
                f"says the {kind} of every file"
            )
        raise ValueError(f"this model knows no {kind} {name!r}; it knows: {', '.join(known)}")

    @property
    def is_empty(self) -> bool:
        return not self.takes


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Values of the conditions for a batch.

    Attributes:
        class_id: int64 `[b]`.
        speaker: int64 `[b]`.
        actions: int64 `[b, t]` or float `[b, t, a]`, one per data frame.
        local: float `[b, c, *grid]`, one vector per code.
    """

    class_id: Tensor | None = None
    speaker: Tensor | None = None
    actions: Tensor | None = None
    local: Tensor | None = None

    def to(self, device: torch.device | str) -> Cond:
        """The same conditions on another device."""
        moved = {name: value.to(device) for name, value in self._given().items()}
        return Cond(**moved)

    def of(self, names: Collection[str]) -> Cond | None:
        """The conditions with these names alone; None if none of them is given."""
        kept = {name: value for name, value in self._given().items() if name in names}
        return Cond(**kept) if kept else None

    def besides(self, names: Collection[str]) -> Cond | None:
        """The conditions with other names; None if none is given."""
        return self.of(self._given().keys() - set(names))

    def check(self, spec: CondSpec, batch: int, grid: tuple[int, ...]) -> None:
        """Raise `ValueError` unless this is exactly what a model of `spec` needs for a grid."""
        frames = grid[0] * spec.actions_per_code
        self._check_length(spec, grid[0])
        action_shape = (batch, frames) + ((spec.action_dim,) if spec.action_dim else ())
        self._check_ids("class_id", self.class_id, spec.num_classes, (batch,))
        self._check_ids("speaker", self.speaker, spec.num_speakers, (batch,))
        if spec.action_dim:
            self._check_shape("actions", self.actions, action_shape)
        else:
            self._check_ids("actions", self.actions, spec.num_actions, action_shape)
        if self.local is not None and not spec.local_channels:
            raise ValueError("this model was not built to take local")
        if spec.local_channels:
            self._check_shape("local", self.local, (batch, spec.local_channels, *grid))

    def _check_length(self, spec: CondSpec, codes: int) -> None:
        """The usual mistake with actions, in words."""
        needed = codes * spec.actions_per_code
        if not spec.takes_actions or self.actions is None or self.actions.ndim < 2:
            return
        given = self.actions.shape[1]
        if given != needed:
            raise ValueError(
                f"{needed} actions are needed, {spec.actions_per_code} for each of {codes} codes "
                f"along the first axis of the grid; got {given}, "
                f"{abs(needed - given)} too {'few' if given < needed else 'many'}"
            )

    def _given(self) -> dict[str, Tensor]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}

    def _check_ids(
        self, name: str, ids: Tensor | None, number: int, shape: tuple[int, ...]
    ) -> None:
        if not number and ids is None:
            return
        if not number:
            raise ValueError(f"this model was not built to take {name}")
        self._check_shape(name, ids, shape)
        assert ids is not None
        if ids.is_floating_point() or (
            ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < number
        ):
            raise ValueError(
                f"{name} must be integers in [0, {number}), "
                f"got {ids.dtype} values from {ids.min().item()} to {ids.max().item()}"
            )

    @staticmethod
    def _check_shape(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
        if value is None:
            raise ValueError(f"this model needs {name} of shape {list(shape)}; none were given")
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
