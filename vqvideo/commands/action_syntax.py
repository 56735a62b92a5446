"""The syntax of actions in options and records, such as `forward*6, turn left`."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import torch
from torch import Tensor

from vqvideo.cond import CondSpec
from vqvideo.data.actions import load_actions

MAX_ACTIONS = 1_000_000  # about thirty hours


def parse_actions(text: str, spec: CondSpec) -> Tensor:
    """Parse actions in the syntax of `--actions`: `[n]`, or `[n, a]` from a file.

    Args:
        text: names or ids, each with an optional repeat count, such as
            `forward*6, turn left, 3*4`; or the name of a `.npy` file of integers `[n]`, or of
            vectors `[n, a]` for a model with continuous actions.
        spec: the conditions of the model.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an action is unknown to the model (the message lists the known ones), or there
            are no actions or more than a million.

    >>> parse_actions("1*2, stay", CondSpec(num_actions=2, action_names=("stay", "go"))).tolist()
    [1, 1, 0]
    """
    if text.endswith(".npy"):
        actions = load_actions(Path(text))
        check_action_shape(actions, spec)
        if not len(actions):
            raise ValueError(f"{text} holds no actions; expected one per frame")
        return actions
    if not spec.num_actions:
        raise ValueError(f"{describe_actions(spec)}; got {text!r}")
    runs: list[tuple[int, int]] = []
    for term in text.split(","):
        match = re.fullmatch(r"\s*(.*?)\s*(?:\*\s*([0-9]+)\s*)?", term)
        assert match is not None  # anything matches
        name, count = match[1], int(match[2] or 1)
        if name in spec.action_labels:
            action = spec.action_labels.index(name)
        elif name.isdecimal() and int(name) < spec.num_actions:
            action = int(name)
        else:
            raise ValueError(f"{describe_actions(spec)}; got {name!r}")
        runs.append((action, count))
    total = sum(count for _, count in runs)
    if not 1 <= total <= MAX_ACTIONS:
        raise ValueError(f"expected 1 to {MAX_ACTIONS:,} actions, got {total:,}")
    ids, counts = torch.tensor(runs).unbind(1)
    return ids.repeat_interleave(counts)


def format_actions(actions: Tensor, spec: CondSpec) -> str | list[list[float]]:
    """Format actions in the syntax of `parse_actions`; vectors are returned as lists."""
    if spec.action_dim:
        return actions.tolist()
    runs = [(action, len(list(group))) for action, group in itertools.groupby(actions.tolist())]
    names = spec.action_labels
    return ", ".join(names[action] + (f"*{count}" if count > 1 else "") for action, count in runs)


def describe_actions(spec: CondSpec) -> str:
    """Return a clause for error messages that lists the actions of a model."""
    if spec.action_dim:
        return f"the actions are vectors of {spec.action_dim} numbers, a .npy file [n, a]"
    listed = ", ".join(f"{action} {name}" for action, name in enumerate(spec.action_labels))
    return f"the actions are {listed}"


def check_action_shape(actions: Tensor, spec: CondSpec) -> None:
    """Raise `ValueError` if actions do not have the vector size of the model."""
    width = actions.shape[1] if actions.ndim > 1 else 0
    if width != spec.action_dim:
        got = f"vectors of {width} numbers" if width else "integers"
        raise ValueError(f"{describe_actions(spec)}; the file has {got}")
