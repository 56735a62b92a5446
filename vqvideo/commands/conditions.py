"""User-specified conditions for sampling: speaker, class and actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.commands.action_syntax import (
    check_action_shape,
    describe_actions,
    format_actions,
    parse_actions,
)
from vqvideo.commands.model import find_model_folder
from vqvideo.commands.prefix import Prefix
from vqvideo.cond import Cond, CondSpec
from vqvideo.generator import Generator

EXAMPLE_FILE = "example.mp4"  # next to shipped weights: a recording, with its .actions.npy file


class ConditionOptions(NamedTuple):
    """The conditions of a clip as a user gives them.

    Attributes:
        speaker, class_name: names known to the model.
        actions: one action per generated frame, see `parse_actions`; None takes the actions
            recorded with the prefix.
    """

    speaker: str | None = None
    class_name: str | None = None
    actions: str | None = None


NO_CONDITIONS = ConditionOptions()


class ClipConditions(NamedTuple):
    """The conditions of a clip to generate, and what they determine.

    Attributes:
        cond: conditions of prior and decoder for all samples; None without any.
        prefix: the clip to continue, or None.
        num_frames: number of frames of the clip; None if neither it nor actions are given.
        record: entries for the JSON record: `speaker`, `class`, and those of `ResolvedActions`.
    """

    cond: Cond | None
    prefix: Prefix | None
    num_frames: int | None
    record: dict[str, Any]


def resolve_conditions(
    generator: Generator,
    model: str,
    options: ConditionOptions,
    *,
    num_samples: int,
    num_frames: int | None,
    prefix: Prefix | None,
) -> ClipConditions:
    """Return the conditions that options specify: the same ones for all samples.

    Args:
        generator: the model.
        model: its name. A model with actions continues the recording that ships with its weights
            if neither a prefix nor actions are given.
        options: the conditions.
        num_samples: number of samples.
        num_frames, prefix: see `resolve_actions`.

    Raises:
        ValueError: as `resolve_actions` and `build_cond`, or the model takes no actions.
    """
    speaker, class_name, actions = options
    record, action_tensor = {"speaker": speaker, "class": class_name}, None
    if generator.prior is not None and generator.prior.cond.has_actions:
        prefix = prefix or (None if actions else find_example(model))
        resolved = resolve_actions(generator, prefix, actions, num_frames)
        action_tensor, num_frames = resolved.actions, resolved.num_frames
        record |= resolved.record
    elif actions is not None:
        raise ValueError(f"{model} is not conditioned on actions; leave out --actions")
    cond = build_cond(
        generator, num_samples, speaker=speaker, class_name=class_name, actions=action_tensor
    )
    return ClipConditions(cond, prefix, num_frames, record)


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
        ValueError: a name is unknown to the model, or the prior or the decoder has another
            condition, which is missing.
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
    for part, spec in specs.items():
        missing = [key for key in spec.keys if key not in conditions]
        if missing and len(missing) < len(spec.keys):
            raise ValueError(_describe_missing_condition(part, spec, missing[0]))
    return Cond(**conditions) if conditions else None


def _describe_missing_condition(part: str, spec: CondSpec, key: str) -> str:
    """Return the message for conditions that are given in part only."""
    name, known = key.removesuffix("_id"), ", ".join(spec.names.get(key, ()))
    hint = f": give --{name}" if key in ("speaker", "class_id", "actions") else ""
    return f"the {part} is also conditioned on {name}{hint}" + (
        f"; known: {known}" if known else ""
    )


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
    spec = generator.prior.cond
    before, recorded = _resolve_prefix(generator, prefix, num_frames)
    num_following = None if num_frames is None else num_frames - len(before)
    recorded_after = None if recorded is None else recorded[len(before) :]
    after = _resolve_following(spec, actions, recorded_after, num_following)
    all_actions = torch.cat([before, after])
    low, high = (int(value) for value in all_actions.aminmax())
    if spec.num_actions and not 0 <= low <= high < spec.num_actions:
        raise ValueError(f"{describe_actions(spec)}; got {low} to {high}")
    num_padding = -len(all_actions) % generator.vqvae.downsampling[0]
    padding = all_actions[-1:].expand(num_padding, *all_actions.shape[1:])
    actions_before = None if recorded is None else format_actions(before, spec)
    record = {"actions_before": actions_before, "actions": format_actions(after, spec)}
    return ResolvedActions(torch.cat([all_actions, padding]), len(all_actions), record)


def _resolve_prefix(
    generator: Generator, prefix: Prefix | None, num_frames: int | None
) -> tuple[Tensor, Tensor | None]:
    """Return the actions that led to the frames of a prefix, and all recorded ones, if known."""
    spec = generator.prior.cond  # type: ignore[union-attr]
    length, recorded = 0, None
    if prefix is not None:
        length, recorded = prefix.validate_length(generator), prefix.read_actions()
        if num_frames is not None and num_frames <= length:
            raise ValueError(
                f"num_frames is {num_frames} in total, so nothing follows a prefix of {length} "
                f"frames of {prefix.file}; give more frames or a shorter prefix"
            )
    if recorded is None:
        shape = (length, spec.action_dim) if spec.action_dim else (length,)
        return torch.zeros(shape, dtype=torch.float32 if spec.action_dim else torch.int64), None
    check_action_shape(recorded, spec)
    if len(recorded) < length:
        raise ValueError(
            f"the .actions.npy file of the prefix has actions for {len(recorded)} of {length} "
            f"frames"
        )
    return recorded[:length], recorded


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
