"""Conditions of a model: classes, speakers, actions and local maps.

`CondSpec` describes the conditions a model takes, `Cond` carries their values for one batch.
A model built for a condition also runs without one (`cond=None`), without dummy labels: training
drops the conditions of a share of the items of every batch (`CondSpec.dropout`). A `Cond` must hold
all conditions that its model takes.

Actions are aligned with data frames: `actions[:, j]` is the action that led into frame j, so
frame 0 carries whatever led to it (0, "none", at the start of a recording). With a temporal
stride s, code frame i owns the s actions i*s ... i*s + s - 1, which led into its s data frames:

    data frame      0  1  2  3 | 4  5  6  7 | 8  9 10 11      stride 4
    action led to   0  1  2  3 | 4  5  6  7 | 8  9 10 11
    code frame          0      |     1      |      2

An action affects all codes of its own code frame and of later code frames, and no earlier one. When
a model is played interactively, s actions are chosen at a time, between two code frames.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqvideo.arguments import check_ids_dtype

# A name that cannot be confused with a number or a separator in a list of actions.
_ACTION_NAME_PATTERN = re.compile(r"[^\W\d_](?:[\w -]*[\w-])?")


@dataclass(frozen=True, kw_only=True)
class CondSpec:
    """Sizes of the conditions a model takes; 0 means the model does not take that condition.

    Attributes:
        num_classes: number of classes; `Cond.class_id` lies in [0, num_classes).
        num_speakers: number of speakers; `Cond.speaker` lies in [0, num_speakers).
        num_actions: number of discrete actions; `Cond.actions` is int64 `[b, t]`.
        action_dim: size of a continuous action; `Cond.actions` is float `[b, t, action_dim]`.
        actions_per_code: data frames, and so actions, per code frame: the temporal stride.
        local_channels: channels of the map `Cond.local` `[b, c, *grid]`.
        dropout: share of items whose conditions are dropped in training, so that the model also
            learns the unconditional distribution, as classifier-free guidance needs.
        class_names, speaker_names, action_names: names of the ids, in order; empty if unknown.
            Names of classes and speakers come from the training data. They are stored with the
            model, so that an id keeps its meaning.
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
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if field.type == "int" and (not isinstance(value, int) or value < 0):
                raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
        self._check_names("class_names", self.num_classes)
        self._check_names("speaker_names", self.num_speakers)
        self._check_names("action_names", self.num_actions)
        for name, count in Counter(self.action_names).items():
            if not _ACTION_NAME_PATTERN.fullmatch(name) or count > 1:
                raise ValueError(
                    f"an action's name must begin with a letter, contain only letters, digits, "
                    f"spaces, '_' and '-', and be unique, got {name!r} in {self.action_names}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout!r}")
        if self.num_actions and self.action_dim:
            raise ValueError(
                "actions must be either discrete (num_actions) or continuous (action_dim), not both"
            )
        if self.actions_per_code < 1:
            raise ValueError(f"actions_per_code must be at least 1, got {self.actions_per_code}")

    def _check_names(self, field: str, num_ids: int) -> None:
        names = tuple(getattr(self, field))
        object.__setattr__(self, field, names)
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{field} must hold text, got {reprlib.repr(names)}")
        if names and len(names) != num_ids:
            raise ValueError(
                f"{field} must hold {num_ids} names, one for each, got {reprlib.repr(names)}"
            )

    @classmethod
    def from_config(cls, spec: CondSpec | Mapping[str, Any] | None) -> CondSpec:
        """Return `spec` as a `CondSpec`; a mapping (from a config) holds its fields."""
        if isinstance(spec, CondSpec):
            return spec
        known = cls.__dataclass_fields__
        for name in spec or {}:
            if name not in known:
                raise ValueError(f"cond has no entry {name!r}; it has: {', '.join(known)}")
        return cls(**(spec or {}))

    @property
    def has_actions(self) -> bool:
        """Return whether the model takes actions, discrete or continuous."""
        return bool(self.num_actions or self.action_dim)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the fields of `Cond` that the model takes.

        >>> CondSpec(num_speakers=3).keys
        ('speaker',)
        """
        sizes = {
            "class_id": self.num_classes,
            "speaker": self.num_speakers,
            "actions": self.has_actions,
            "local": self.local_channels,
        }
        return tuple(name for name, size in sizes.items() if size)

    @property
    def action_labels(self) -> tuple[str, ...]:
        """Names of the discrete actions, "action 0" and so on if they have none.

        >>> CondSpec(num_actions=2).action_labels
        ('action 0', 'action 1')
        """
        return self.action_names or tuple(f"action {i}" for i in range(self.num_actions))

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Names of the ids of each condition that can have names; empty if unknown."""
        return {"class_id": self.class_names, "speaker": self.speaker_names}

    def get_id(self, key: str, name: str) -> int:
        """Return the id of a class or speaker, given its name.

        Args:
            key: "class_id" or "speaker".
            name: name of the class or speaker.

        Raises:
            ValueError: the name is unknown; the message lists the known names.

        >>> CondSpec(num_speakers=2, speaker_names=("ann", "bob")).get_id("speaker", "bob")
        1
        """
        known, kind = self.names[key], key.removesuffix("_id")
        if name in known:
            return known.index(name)
        if known:
            raise ValueError(f"this model has no {kind} {name!r}; it has: {', '.join(known)}")
        raise ValueError(
            f"this model has no {kind} names; train one with condition_on={kind} on data whose "
            f"metadata gives the {kind} of every file"
        )

    @property
    def is_empty(self) -> bool:
        """Return whether the model takes no conditions."""
        return not self.keys


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
        """Return the conditions on another device."""
        return Cond(**{name: value.to(device) for name, value in self._to_dict().items()})

    def select(self, keys: Collection[str]) -> Cond | None:
        """Return only the conditions with these names; None if none of them is present."""
        kept = {name: value for name, value in self._to_dict().items() if name in keys}
        return Cond(**kept) if kept else None

    def exclude(self, keys: Collection[str]) -> Cond | None:
        """Return all conditions except those with these names; None if none is left."""
        return self.select(self._to_dict().keys() - set(keys))

    def check(self, spec: CondSpec, batch_size: int, grid: tuple[int, ...]) -> None:
        """Raise `ValueError` unless these are exactly the conditions of `spec` for a grid."""
        num_actions = grid[0] * spec.actions_per_code
        if spec.has_actions and self.actions is not None and self.actions.ndim >= 2:
            self._check_num_actions(spec, grid[0], num_actions)
        shapes = {
            "class_id": (batch_size,),
            "speaker": (batch_size,),
            "actions": (batch_size, num_actions, *[spec.action_dim] * bool(spec.action_dim)),
            "local": (batch_size, spec.local_channels, *grid),
        }
        num_ids = {
            "class_id": spec.num_classes,
            "speaker": spec.num_speakers,
            "actions": spec.num_actions,
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if name not in spec.keys:
                if value is not None:
                    raise ValueError(f"this model was not built to take {name}")
                continue
            if value is None:
                raise ValueError(f"this model needs {name} of shape {list(shape)}; none were given")
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
            if num_ids.get(name):
                _check_ids(name, value, num_ids[name])

    def _check_num_actions(self, spec: CondSpec, num_codes: int, expected: int) -> None:
        assert self.actions is not None
        num_actions = self.actions.shape[1]
        if num_actions != expected:
            raise ValueError(
                f"{expected} actions are needed, {spec.actions_per_code} for each of {num_codes} "
                f"codes along the first axis of the grid; got {num_actions}, "
                f"{abs(expected - num_actions)} too {'few' if num_actions < expected else 'many'}"
            )

    def _to_dict(self) -> dict[str, Tensor]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


def _check_ids(name: str, ids: Tensor, num_ids: int) -> None:
    is_float = ids.is_floating_point()
    if not is_float:
        check_ids_dtype(name, ids)
    if is_float or (ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_ids):
        low, high = (ids.float() if is_float else ids).aminmax()
        raise ValueError(
            f"{name} must be integers in [0, {num_ids}), "
            f"got {ids.dtype} values from {low.item()} to {high.item()}"
        )
