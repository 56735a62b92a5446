"""Compress the codes of clips under a prior, and decompress them.

A clip is split along its first axis into segments of the length that the prior was trained on. So
many segments are processed in one batch, however long the clip is, and each can be decoded by
itself. The bytes of a clip are its segments, each preceded by its length as a varint: 7 bits per
byte, least significant first, the eighth bit set if more bytes follow.
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
from vqvideo.grid import ceil_div

BATCH_SIZE = 16  # segments that are coded together


class CodeSegment(NamedTuple):
    """A segment of a clip: the index of the clip, and its range along the first axis."""

    clip: int
    start: int
    stop: int


class ConditionedClip(NamedTuple):
    """A clip and its actions, one per data step; None if it has no actions."""

    clip: CodeClip
    actions: Tensor | None


def build_coder(generator: Generator) -> PriorCoder:
    """Return a coder that compresses codes under the model's prior.

    Raises:
        ValueError: the model has no prior, or its prior does not support compression.
        ImportError: the compression library is not installed.
    """
    if generator.prior is None:
        raise ValueError("this model has no prior to compress codes with; train one first")
    return PriorCoder(generator.prior)


def compress(
    coder: PriorCoder,
    segment_length: int,
    clips: Sequence[ConditionedClip],
    codes: Sequence[Tensor],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[bytes]:
    """Compress the codes `[*grid(, s)]` of each clip to bytes.

    Args:
        coder: coder of the prior.
        segment_length: number of codes along the first axis of a segment.
        clips: metadata and actions of each clip.
        codes: codes of each clip.
        progress: called with (segments done, total segments).
    """
    encoded_segments: dict[CodeSegment, bytes] = {}
    total = sum(len(_split_clip(i, item.clip, segment_length)) for i, item in enumerate(clips))
    for segments in _batch_segments(clips, segment_length):
        batch = torch.stack([codes[clip][first:last] for clip, first, last in segments])
        encoded = coder.encode(batch, _cond_from_clips(coder.prior.cond, clips, segments))
        encoded_segments.update(zip(segments, encoded, strict=True))
        progress(len(encoded_segments), total)
    return [
        b"".join(
            _encode_varint(len(encoded_segments[segment])) + encoded_segments[segment]
            for segment in _split_clip(i, item.clip, segment_length)
        )
        for i, item in enumerate(clips)
    ]


def decompress(
    coder: PriorCoder, segment_length: int, clips: Sequence[ConditionedClip], data: Sequence[bytes]
) -> list[Tensor]:
    """Decompress the bytes from `compress` to the codes int64 `[*grid(, s)]` of each clip.

    Raises:
        ValueError: a segment is damaged; the message names the segment and its clip.
    """
    segment_bytes: dict[CodeSegment, bytes] = {}
    for i, (item, clip_bytes) in enumerate(zip(clips, data, strict=True)):
        contents = _parse_segments(clip_bytes, item.clip, segment_length)
        segments = _split_clip(i, item.clip, segment_length)
        segment_bytes.update(zip(segments, contents, strict=True))
    decoded_segments: dict[CodeSegment, Tensor] = {}
    for segments in _batch_segments(clips, segment_length):
        clip, first, last = segments[0]
        grid = (last - first, *clips[clip].clip.grid[1:])
        cond = _cond_from_clips(coder.prior.cond, clips, segments)
        try:
            decoded = coder.decode([segment_bytes[segment] for segment in segments], grid, cond)
        except ValueError as cause:
            names = ", ".join(f"{clips[p.clip].clip.source} from code {p.start}" for p in segments)
            raise ValueError(f"{cause} (segments, in order: {names})") from cause
        decoded_segments.update(zip(segments, decoded, strict=True))
    return [
        torch.cat(
            [decoded_segments[segment] for segment in _split_clip(i, item.clip, segment_length)]
        )
        for i, item in enumerate(clips)
    ]


def _split_clip(index: int, clip: CodeClip, segment_length: int) -> list[CodeSegment]:
    size = clip.grid[0]
    return [
        CodeSegment(index, n, min(n + segment_length, size)) for n in range(0, size, segment_length)
    ]


def _encode_varint(value: int) -> bytes:
    """Encode a non-negative integer, 7 bits per byte.

    >>> list(_encode_varint(300))
    [172, 2]
    """
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _encode_varint(rest) if rest else bytes([low])


def _parse_segments(data: bytes, clip: CodeClip, segment_length: int) -> list[bytes]:
    """Split the bytes of a clip into segments, in time linear in the number of bytes.

    Raises:
        ValueError: the bytes do not consist of the segments of the clip.
    """
    num_segments = ceil_div(clip.grid[0], segment_length)
    segments: list[bytes] = []
    position = 0
    while position < len(data) and len(segments) < num_segments:
        length, position = _decode_varint(data, position)
        segments.append(data[position : position + length])
        position += length
    if position != len(data) or len(segments) != num_segments:
        raise ValueError(f"the bytes of {clip.source} do not match its segments; they are damaged")
    return segments


def _decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at a position and the position after it; at most 9 bytes, so 63 bits.

    An integer that is cut or longer has no end here: it is read as one that exceeds the data.

    >>> _decode_varint(bytes([172, 2]), 0)
    (300, 2)
    """
    value = 0
    for index, byte in enumerate(data[position : position + 9]):
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, position + index + 1
    return len(data) + 1, position


def _batch_segments(
    clips: Sequence[ConditionedClip], segment_length: int
) -> list[list[CodeSegment]]:
    """Group segments of equal shape, from any clip, into batches of at most `BATCH_SIZE`."""
    segments_by_shape: dict[tuple[int, ...], list[CodeSegment]] = {}
    for index, item in enumerate(clips):
        for segment in _split_clip(index, item.clip, segment_length):
            shape = (segment.stop - segment.start, *item.clip.grid[1:])
            segments_by_shape.setdefault(shape, []).append(segment)
    return [
        segments[start : start + BATCH_SIZE]
        for segments in segments_by_shape.values()
        for start in range(0, len(segments), BATCH_SIZE)
    ]


def _cond_from_clips(
    spec: CondSpec, clips: Sequence[ConditionedClip], segments: Sequence[CodeSegment]
) -> Cond | None:
    """Return the conditions of a prior of `spec` for segments of one shape.

    Raises:
        ValueError: the data lacks a condition of the prior, or has a label that it does not know.
    """
    if spec.is_empty:
        return None
    conditions: dict[str, Tensor] = {}
    for name, attribute, known_names in (
        ("class_id", "class_name", spec.class_names),
        ("speaker", "speaker", spec.speaker_names),
    ):
        labels = [getattr(clips[segment.clip].clip, attribute) for segment in segments]
        if known_names:
            unknown = [label for label in labels if label not in known_names]
            if unknown:
                raise ValueError(
                    f"the prior knows {', '.join(known_names)}, the data has {unknown[0]!r}"
                )
            conditions[name] = torch.tensor([known_names.index(label) for label in labels])
    if spec.has_actions:
        actions = [
            _slice_actions(clips[segment.clip], segment, spec.actions_per_code)
            for segment in segments
        ]
        conditions["actions"] = torch.stack(actions)
    return Cond(**conditions)


def _slice_actions(clip: ConditionedClip, segment: CodeSegment, actions_per_code: int) -> Tensor:
    """Return the actions of a segment, zero-padded to whole codes at the end of a clip."""
    if clip.actions is None:
        raise ValueError(f"the prior is conditioned on actions, {clip.clip.source} has none")
    actions = clip.actions[segment.start * actions_per_code : segment.stop * actions_per_code]
    num_missing = (segment.stop - segment.start) * actions_per_code - len(actions)
    return torch.cat([actions, actions.new_zeros(num_missing, *actions.shape[1:])])
