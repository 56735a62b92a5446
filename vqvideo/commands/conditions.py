"""User-specified conditions for sampling: speaker, class and actions."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.commands.model import find_model_folder
from vqvideo.commands.prefix import Prefix
from vqvideo.cond import Cond, CondSpec
from vqvideo.data.actions import load_actions
from vqvideo.generator import Generator

MAX_ACTIONS = 1_000_000  # about thirty hours
EXAMPLE_FILE = "example.mp4"  # next to shipped weights: a recording, with its .actions.npy file


def build_cond(
    generator: Generator,
    num_samples: int,
    *,
    speaker: str | None = None,
    class_name: str | None = None,
    actions: Tensor | None = None,
) -> Cond | None:
    """Return the conditions of prior and decoder for `num_samples` samples, or None if none is set.

    Args:
        generator: the model, which maps the names of speakers and classes to ids.
        num_samples: number of samples; all have the same conditions.
        speaker, class_name: names known to the model.
        actions: `[t]` or `[t, a]`, one per data frame.

    Raises:
        ValueError: a name is unknown to the model.
    """
    specs = {"decoder": generator.vqvae.cond}
    if generator.prior is not None:
        specs["prior"] = generator.prior.cond
    conditions: dict[str, Tensor] = {}
    for key, name in (("speaker", speaker), ("class_id", class_name)):
        if name is None:
            continue
        matching_specs = [spec for spec in specs.values() if key in spec.keys]
        label_id = (matching_specs or [generator.vqvae.cond])[0].get_id(key, name)
        conditions[key] = torch.full((num_samples,), label_id)
    if actions is not None:
        conditions["actions"] = actions[None].expand(num_samples, *actions.shape)
    return Cond(**conditions) if conditions else None


def find_example(model: str) -> Prefix | None:
    """Return the recording that ships with the weights of an action model, or None."""
    file = find_model_folder(model) / EXAMPLE_FILE
    return Prefix(file=str(file)) if file.is_file() else None


class ResolvedActions(NamedTuple):
    """The actions of a clip.

    Attributes:
        actions: `[t]` or `[t, a]`, the action that led to each frame. Padded to whole code frames
            by repeating the last action; the extra frames are cropped.
        num_frames: number of frames of the clip.
        record: entries for the JSON record: `actions` after the prefix, in the syntax of
            `parse_actions`, and `actions_before`, None if unknown.
    """

    actions: Tensor
    num_frames: int
    record: dict[str, Any]


def resolve_actions(
    generator: Generator, prefix: Prefix | None, actions: str | None, num_frames: int | None
) -> ResolvedActions:
    """Return the actions on which a model is conditioned for a clip.

    Args:
        generator: a model whose prior is conditioned on actions.
        prefix: the first frames of the clip. Their actions are read from the `.actions.npy` file if
            there is one; otherwise they are action 0, or zero vectors.
        actions: the actions after the prefix, see `parse_actions`. None uses the recorded actions.
        num_frames: number of frames of the clip, prefix included; None for as many as there are
            actions.

    Raises:
        ValueError: actions are missing, too few, too many or unknown; or the prefix is longer than
            its file, or not shorter than the clip.
    """
    assert generator.prior is not None
    spec, num_prefix_frames, recorded = generator.prior.cond, 0, None
    if prefix is not None:
        num_prefix_frames, recorded = prefix.validate_length(generator), prefix.read_actions()
        if num_frames is not None and num_frames <= num_prefix_frames:
            raise ValueError(
                f"num_frames is {num_frames} in total, so nothing follows a prefix of "
                f"{num_prefix_frames} frames of {prefix.file}; give more frames or a shorter prefix"
            )
    if recorded is None:
        before = (
            torch.zeros(num_prefix_frames, spec.action_dim)
            if spec.action_dim
            else torch.zeros(num_prefix_frames).long()
        )
    else:
        _check_action_shape(recorded, spec)
        before = recorded[:num_prefix_frames]
        if len(before) < num_prefix_frames:
            raise ValueError(
                f"the .actions.npy file of the prefix has actions for {len(before)} of "
                f"{num_prefix_frames} frames"
            )
    num_following = None if num_frames is None else num_frames - num_prefix_frames
    after = _resolve_following(
        spec, actions, None if recorded is None else recorded[num_prefix_frames:], num_following
    )
    all_actions = torch.cat([before, after])
    if (
        spec.num_actions
        and not 0 <= int(all_actions.min()) <= int(all_actions.max()) < spec.num_actions
    ):
        raise ValueError(
            f"{describe_actions(spec)}; got {int(all_actions.min())} to {int(all_actions.max())}"
        )
    padding = all_actions[-1:].expand(
        -len(all_actions) % generator.vqvae.downsampling[0], *all_actions.shape[1:]
    )
    actions_before = None if recorded is None else format_actions(before, spec)
    record = {"actions_before": actions_before, "actions": format_actions(after, spec)}
    return ResolvedActions(torch.cat([all_actions, padding]), len(all_actions), record)


def _resolve_following(
    spec: CondSpec, text: str | None, recorded: Tensor | None, num_actions: int | None
) -> Tensor:
    """Return `num_actions` actions after a prefix: parsed from `text`, or recorded ones."""
    needed = f"{num_actions} actions are needed, one per generated frame"
    if text is not None:
        after = parse_actions(text, spec)
        if num_actions not in (None, len(after)):
            raise ValueError(f"{needed}; got {len(after)}")
        return after
    if recorded is None:
        raise ValueError(
            f"this model is conditioned on actions: give --actions, one per generated frame"
            f"{'' if num_actions is None else f', {num_actions} of them'}; {describe_actions(spec)}"
        )
    if len(recorded) < (num_actions or 1):
        raise ValueError(
            f"{num_actions or 'some'} actions are needed, one per generated frame; the recording "
            f"has {len(recorded)} after the prefix. Give the actions with --actions"
        )
    return recorded[:num_actions]


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
        _check_action_shape(actions, spec)
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


def _check_action_shape(actions: Tensor, spec: CondSpec) -> None:
    """Raise `ValueError` if actions do not have the vector size of the model."""
    width = actions.shape[1] if actions.ndim > 1 else 0
    if width != spec.action_dim:
        got = f"vectors of {width} numbers" if width else "integers"
        raise ValueError(f"{describe_actions(spec)}; the file has {got}")
