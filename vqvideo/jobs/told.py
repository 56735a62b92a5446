"""What a model is told while it imagines: who speaks, of which class, and what is done."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.data.actions import load_actions
from vqvideo.generator import Generator
from vqvideo.jobs.model import model_folder
from vqvideo.jobs.prefix import Prefix

MOST = 1_000_000  # actions: some thirty hours
EXAMPLE = "example.mp4"  # beside weights that ship: a recording, its actions beside it


def told(
    generator: Generator,
    number: int,
    *,
    speaker: str | None = None,
    class_name: str | None = None,
    actions: Tensor | None = None,
) -> Cond | None:
    """What prior and decoder are told of each of so many samples; None is nothing.

    Args:
        generator: the model, which knows speakers and classes by name.
        number: of samples, all told the same.
        speaker, class_name: names.
        actions: `[t]` or `[t, a]`, one for each data frame.

    Raises:
        ValueError: the model knows none of that name.
    """
    parts = {"decoder": generator.vqvae.cond}
    if generator.prior is not None:
        parts["prior"] = generator.prior.cond
    found: dict[str, Tensor] = {}
    for condition, name in (("speaker", speaker), ("class_id", class_name)):
        if name is None:
            continue
        taking = [spec for spec in parts.values() if condition in spec.takes]
        known = (taking or [generator.vqvae.cond])[0].number(condition, name)
        found[condition] = torch.full((number,), known)
    if actions is not None:
        found["actions"] = actions[None].expand(number, *actions.shape)
    return Cond(**found) if found else None


def example_of(model: str) -> Prefix | None:
    """The recording that ships beside the weights of a model that is told actions, if one does."""
    file = model_folder(model) / EXAMPLE
    return Prefix(file=str(file)) if file.is_file() else None


class Done(NamedTuple):
    """What is done in a clip.

    Attributes:
        actions: one for each frame, the one that led into it, `[t]` or `[t, a]`; for whole code
            frames, so that the last is done on in frames that nobody sees.
        num_frames: of the clip.
        record: what is to be remembered: `actions` after the prefix, as `spelled` reads them, and
            `actions_before`, None where nobody knows them.
    """

    actions: Tensor
    num_frames: int
    record: dict[str, Any]


def what_is_done(
    generator: Generator, prefix: Prefix | None, actions: str | None, num_frames: int | None
) -> Done:
    """The actions that a model is told of a clip.

    Args:
        generator: its prior is told actions.
        prefix: what the clip begins with. Where it is a recording with its actions beside it, it
            was these that led into it; else action 0 or zeros.
        actions: what is done after it, see `spelled`. None goes on as the recording does.
        num_frames: of the clip in all; None is as many as there are actions.

    Raises:
        ValueError: there are no actions, too few, too many or others than the model knows; or the
            prefix is longer than its file, or all of the clip.
    """
    assert generator.prior is not None
    spec, kept, recorded = generator.prior.cond, 0, None
    if prefix is not None:
        kept, recorded = prefix.checked_length(generator), prefix.actions()
        if num_frames is not None and num_frames <= kept:
            raise ValueError(
                f"num_frames is {num_frames} in all, so nothing follows a prefix of {kept}, "
                f"which is that of {prefix.file}"
            )
    if recorded is None:
        led = torch.zeros(kept, spec.action_dim) if spec.action_dim else torch.zeros(kept).long()
    else:
        _check_kind(recorded, spec)
        led = recorded[:kept]
        if len(led) < kept:
            raise ValueError(f"the actions beside the prefix lead to {len(led)} of {kept} frames")
    number = None if num_frames is None else num_frames - kept
    after = _after(spec, actions, None if recorded is None else recorded[kept:], number)
    done = torch.cat([led, after])
    if spec.num_actions and not 0 <= int(done.min()) <= int(done.max()) < spec.num_actions:
        raise ValueError(f"{known_actions(spec)}; got {int(done.min())} to {int(done.max())}")
    unseen = done[-1:].expand(-len(done) % generator.vqvae.downsampling[0], *done.shape[1:])
    known = None if recorded is None else worded(led, spec)
    record = {"actions_before": known, "actions": worded(after, spec)}
    return Done(torch.cat([done, unseen]), len(done), record)


def _after(
    spec: CondSpec, given: str | None, recorded: Tensor | None, number: int | None
) -> Tensor:
    """What is done after a prefix: what is given, else what was recorded; `number` actions."""
    needed = f"{number} actions are needed, one for each frame that is imagined"
    if given is not None:
        after = spelled(given, spec)
        if number not in (None, len(after)):
            raise ValueError(f"{needed}; got {len(after)}")
        return after
    if recorded is None:
        raise ValueError(
            f"this model is told what is done: give --actions, one for each frame that is imagined"
            f"{'' if number is None else f', {number} of them'}; {known_actions(spec)}"
        )
    if len(recorded) < (number or 1):
        raise ValueError(
            f"{number or 'some'} actions are needed, one for each frame that is imagined; the "
            f"recording has {len(recorded)} after the prefix. Say what is done with --actions"
        )
    return recorded[:number]


def spelled(text: str, spec: CondSpec) -> Tensor:
    """Actions as a user writes them: `[n]`, or `[n, a]` from a file.

    Args:
        text: names or numbers, each with how often, `forward*6, turn left, 3*4`; or the name of a
            `.npy` file of integers `[n]`, or of numbers `[n, a]` for a model of such actions.
        spec: what the model is told.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an action that the model does not know (the message lists those that it does),
            none, or more than a million.

    >>> spelled("1*2, stay", CondSpec(num_actions=2, action_names=("stay", "go"))).tolist()
    [1, 1, 0]
    """
    if text.endswith(".npy"):
        actions = load_actions(Path(text))
        _check_kind(actions, spec)
        if not len(actions):
            raise ValueError(f"{text} holds no action; one is needed for each frame")
        return actions
    if not spec.num_actions:
        raise ValueError(f"{known_actions(spec)}; got {text!r}")
    found: list[tuple[int, int]] = []
    for word in text.split(","):
        parts = re.fullmatch(r"\s*(.*?)\s*(?:\*\s*([0-9]+)\s*)?", word)
        assert parts is not None  # anything matches
        name, times = parts[1], int(parts[2] or 1)
        if name in spec.actions_called:
            number = spec.actions_called.index(name)
        elif name.isdecimal() and int(name) < spec.num_actions:
            number = int(name)
        else:
            raise ValueError(f"{known_actions(spec)}; got {name!r}")
        found.append((number, times))
    in_all = sum(times for _, times in found)
    if not 1 <= in_all <= MOST:
        raise ValueError(f"expected 1 to {MOST:,} actions, got {in_all:,}")
    numbers, each = torch.tensor(found).unbind(1)
    return numbers.repeat_interleave(each)


def worded(actions: Tensor, spec: CondSpec) -> str | list[list[float]]:
    """Actions as `spelled` reads them, or vectors as they are."""
    if spec.action_dim:
        return actions.tolist()
    runs = [(number, len(list(same))) for number, same in itertools.groupby(actions.tolist())]
    names = spec.actions_called
    return ", ".join(names[number] + (f"*{n}" if n > 1 else "") for number, n in runs)


def known_actions(spec: CondSpec) -> str:
    """A sentence about the actions that a model is told."""
    if spec.action_dim:
        return f"the actions are vectors of {spec.action_dim} numbers, a .npy file [n, a]"
    named = ", ".join(f"{number} {name}" for number, name in enumerate(spec.actions_called))
    return f"the actions are {named}"


def _check_kind(actions: Tensor, spec: CondSpec) -> None:
    width = actions.shape[1] if actions.ndim > 1 else 0
    if width != spec.action_dim:
        got = f"vectors of {width} numbers" if width else "integers"
        raise ValueError(f"{known_actions(spec)}; the file has {got}")
