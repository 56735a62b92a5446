"""Codes of clips as bytes under a prior, and back.

A clip is cut along its first axis into segments as long as what the prior was trained on, so that
many are worked on together, however long the clip; each can be decoded by itself. The bytes of a
clip are its segments, each behind its length: 7 bits a byte, the lowest first, the eighth bit set
where more follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.data.codes import CodeClip
from vqvideo.entropy import PriorCoder
from vqvideo.generator import Generator

AT_ONCE = 16  # segments that a coder works on together


class Part(NamedTuple):
    """A segment of a clip: which clip, and its place along the first axis."""

    clip: int
    first: int
    last: int


class Told(NamedTuple):
    """A clip and its actions, one per data step, if it has any."""

    clip: CodeClip
    actions: Tensor | None


def coder_of(generator: Generator) -> PriorCoder:
    """What compresses codes under the model's prior.

    Raises:
        ValueError: it has none, or not one that can.
        ImportError: the library for it is missing.
    """
    if generator.prior is None:
        raise ValueError("this model has no prior to compress codes under; train one first")
    return PriorCoder(generator.prior)


def compress(
    coder: PriorCoder,
    segment: int,
    clips: Sequence[Told],
    codes: Sequence[Tensor],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[bytes]:
    """The codes `[*grid(, s)]` of each clip as bytes.

    Args:
        coder: of the prior.
        segment: codes along the first axis of each segment.
        clips: what is known of each clip.
        codes: of each clip.
        progress: called with (segments done, segments in all).
    """
    found: dict[Part, bytes] = {}
    total = sum(len(_parts(i, told.clip, segment)) for i, told in enumerate(clips))
    for parts in _batches(clips, segment):
        batch = torch.stack([codes[clip][first:last] for clip, first, last in parts])
        encoded = coder.encode(batch, _cond(coder.prior.cond, clips, parts))
        found.update(zip(parts, encoded, strict=True))
        progress(len(found), total)
    return [
        b"".join(_length(len(found[part])) + found[part] for part in _parts(i, told.clip, segment))
        for i, told in enumerate(clips)
    ]


def decompress(
    coder: PriorCoder, segment: int, clips: Sequence[Told], data: Sequence[bytes]
) -> list[Tensor]:
    """The codes int64 `[*grid(, s)]` of clips that `compress` made bytes of.

    Raises:
        ValueError: a segment is damaged; the message names it and its clip.
    """
    bytes_of = {
        part: piece
        for i, (told, each) in enumerate(zip(clips, data, strict=True))
        for part, piece in zip(
            _parts(i, told.clip, segment), _pieces(each, told.clip, segment), strict=True
        )
    }
    found: dict[Part, Tensor] = {}
    for parts in _batches(clips, segment):
        clip, first, last = parts[0]
        grid = (last - first, *clips[clip].clip.grid[1:])
        told = _cond(coder.prior.cond, clips, parts)
        try:
            decoded = coder.decode([bytes_of[part] for part in parts], grid, told)
        except ValueError as cause:
            named = ", ".join(f"{clips[p.clip].clip.source} from code {p.first}" for p in parts)
            raise ValueError(f"{cause} (segments, in order: {named})") from cause
        found.update(zip(parts, decoded, strict=True))
    return [
        torch.cat([found[part] for part in _parts(i, told.clip, segment)])
        for i, told in enumerate(clips)
    ]


def _parts(index: int, clip: CodeClip, segment: int) -> list[Part]:
    size = clip.grid[0]
    return [Part(index, n, min(n + segment, size)) for n in range(0, size, segment)]


def _length(number: int) -> bytes:
    """A number, 7 bits a byte.

    >>> list(_length(300))
    [172, 2]
    """
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _length(rest) if rest else bytes([low])


def _pieces(data: bytes, clip: CodeClip, segment: int) -> list[bytes]:
    """The bytes of each segment."""
    pieces, place = [], 0
    while place < len(data):
        length = shift = 0
        while place < len(data):
            byte, place = data[place], place + 1
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        pieces.append(data[place : place + length])
        place += length
    if place != len(data) or len(pieces) != len(_parts(0, clip, segment)):
        raise ValueError(f"the bytes of {clip.source} are not its segments; they are damaged")
    return pieces


def _batches(clips: Sequence[Told], segment: int) -> list[list[Part]]:
    """Segments of one shape together, of whatever clip, at most so many."""
    alike: dict[tuple[int, ...], list[Part]] = {}
    for index, told in enumerate(clips):
        for part in _parts(index, told.clip, segment):
            shape = (part.last - part.first, *told.clip.grid[1:])
            alike.setdefault(shape, []).append(part)
    return [
        parts[start : start + AT_ONCE]
        for parts in alike.values()
        for start in range(0, len(parts), AT_ONCE)
    ]


def _cond(spec: CondSpec, clips: Sequence[Told], parts: Sequence[Part]) -> Cond | None:
    """What a prior of `spec` is told about segments of one shape.

    Raises:
        ValueError: the data lacks what the prior takes.
    """
    if spec.is_empty:
        return None
    given: dict[str, Tensor] = {}
    for name, attribute, names in (
        ("class_id", "class_name", spec.class_names),
        ("speaker", "speaker", spec.speaker_names),
    ):
        said = [getattr(clips[part.clip].clip, attribute) for part in parts]
        if names:
            unknown = [each for each in said if each not in names]
            if unknown:
                raise ValueError(f"the prior knows {', '.join(names)}, the data has {unknown[0]!r}")
            given[name] = torch.tensor([names.index(each) for each in said])
    if spec.takes_actions:
        actions = [_actions(clips[part.clip], part, spec.actions_per_code) for part in parts]
        given["actions"] = torch.stack(actions)
    return Cond(**given)


def _actions(told: Told, part: Part, per_code: int) -> Tensor:
    """Those of a segment, with none (0) for the steps that only fill up the last code of a clip."""
    if told.actions is None:
        raise ValueError(f"the prior takes actions, {told.clip.source} has none")
    own = told.actions[part.first * per_code : part.last * per_code]
    lacking = (part.last - part.first) * per_code - len(own)
    return torch.cat([own, own.new_zeros(lacking, *own.shape[1:])])
