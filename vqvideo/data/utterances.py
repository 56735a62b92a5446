"""Whole utterances: sound files from beginning to end, and the labels of their code frames.

What is said in an utterance is known from the `segments` of `metadata.jsonl`, in seconds; a model
sees frames. `frame_labels` brings the two together.

Not here: windows of one length, as training takes them (clips.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vqvideo import media
from vqvideo.data.clips import SUFFIXES
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import Item, Segment


class Utterance(NamedTuple):
    """A sound file and all that is in it.

    Attributes:
        item: the file and what is known about it.
        samples: float32 `[1, t]` in [-1, 1].
    """

    item: Item
    samples: Tensor


def labelled_items(folder: str | Path, split: str) -> list[Item]:
    """The sound files of a split that have segments; files without are none of them.

    Args:
        folder: with a `metadata.jsonl`, see `vqvideo.data.metadata`.
        split: "train" or "test", see `vqvideo.data.items.items_of`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no file of the split has segments, or `metadata.jsonl` is wrong.
    """
    items = items_of(list_items(folder, SUFFIXES[1]), split)
    labelled = [item for item in items if item.segments]
    if not labelled:
        raise ValueError(
            f"{folder} gives {len(items)} files for the split {split!r} and none of them has "
            'segments; its metadata.jsonl must say what is where, as "segments": '
            '[[start_seconds, end_seconds, "label"], ...]'
        )
    return labelled


def read_utterances(
    items: Sequence[Item],
    *,
    sample_rate: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Utterance]:
    """Read files whole, one after the other.

    Args:
        items: of sound files, such as `labelled_items` gives.
        sample_rate: in Hz, to which they are resampled.
        progress: called with (files done, files in all).

    Raises:
        media.MediaError: a file cannot be read; the message names it.
    """
    for done, item in enumerate(items, start=1):
        yield Utterance(item, media.read_audio(item.path, sample_rate=sample_rate).samples)
        if progress:
            progress(done, len(items))


def frame_labels(
    segments: Sequence[Segment], num_frames: int, seconds_per_frame: float
) -> list[str | None]:
    """The label at the middle of each frame's time; None where no segment covers it.

    Args:
        segments: in order of time, without overlap.
        num_frames: frame i lasts from i to i + 1 times `seconds_per_frame`.
        seconds_per_frame: data steps per code divided by their rate.

    >>> frame_labels([Segment(0.0, 0.05, "HH"), Segment(0.07, 0.2, "AY")], 4, 0.04)
    ['HH', None, 'AY', 'AY']
    """
    labels: list[str | None] = []
    number = 0  # of the first segment that ends after the frame's middle
    for frame in range(num_frames):
        middle = (frame + 0.5) * seconds_per_frame
        while number < len(segments) and segments[number].end <= middle:
            number += 1
        covered = number < len(segments) and segments[number].start <= middle
        labels.append(segments[number].label if covered else None)
    return labels
