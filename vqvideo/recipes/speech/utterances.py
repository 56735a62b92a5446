"""Read whole utterances and align their labels with code frames.

The labels of an utterance are the `segments` of `metadata.jsonl`, in seconds; the codes of a model
are frames. `align_labels` converts the former to the latter.

Not here: windows of one length for training (clips.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vqvideo import media
from vqvideo.data.clips import SUFFIXES_BY_RANK
from vqvideo.data.items import list_items, select_split
from vqvideo.data.metadata import Item, Segment
from vqvideo.media.files import wrap_read_errors


class Utterance(NamedTuple):
    """An audio file and its samples.

    Attributes:
        item: the file and its metadata.
        samples: float32 `[1, t]` in [-1, 1].
    """

    item: Item
    samples: Tensor


def list_labeled_items(folder: str | Path, split: str) -> list[Item]:
    """List the audio files of a split that have segments.

    Args:
        folder: a folder with a `metadata.jsonl`, see `vqvideo.data.metadata`.
        split: "train" or "test", see `vqvideo.data.items.select_split`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no file of the split has segments, or `metadata.jsonl` is invalid.
    """
    items = select_split(list_items(folder, SUFFIXES_BY_RANK[1]), split)
    labeled = [item for item in items if item.segments]
    if not labeled:
        raise ValueError(
            f"{folder} has {len(items)} files for the split {split!r} and none of them has "
            'segments; its metadata.jsonl must label them as "segments": '
            '[[start_seconds, end_seconds, "label"], ...]'
        )
    return labeled


def read_utterances(
    items: Sequence[Item],
    *,
    sample_rate: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Utterance]:
    """Read whole audio files one after another.

    Args:
        items: the audio files, such as those from `list_labeled_items`.
        sample_rate: rate in Hz to which the audio is resampled.
        progress: called with (files read, total number of files).

    Raises:
        media.MediaError: a file cannot be read; the message names it.
    """
    for done, item in enumerate(items, start=1):
        with wrap_read_errors(item.path):
            samples = media.read_audio(item.path, sample_rate=sample_rate).samples
        yield Utterance(item, samples)
        if progress:
            progress(done, len(items))


def align_labels(
    segments: Sequence[Segment], num_frames: int, seconds_per_frame: float
) -> list[str | None]:
    """Return the label at the middle of each frame, or None where no segment covers it.

    Args:
        segments: labeled segments in order of time, without overlap.
        num_frames: number of frames; frame i lasts from i to i + 1 times `seconds_per_frame`.
        seconds_per_frame: data steps per code divided by data steps per second.

    >>> align_labels([Segment(0.0, 0.05, "HH"), Segment(0.07, 0.2, "AY")], 4, 0.04)
    ['HH', None, 'AY', 'AY']
    """
    labels: list[str | None] = []
    index = 0  # of the first segment that ends after the middle of the frame
    for frame in range(num_frames):
        middle = (frame + 0.5) * seconds_per_frame
        while index < len(segments) and segments[index].end <= middle:
            index += 1
        is_covered = index < len(segments) and segments[index].start <= middle
        labels.append(segments[index].label if is_covered else None)
    return labels
