"""Whole episodes: recorded videos with what was done between their frames.

Not here: windows of one length, as training takes them (clips.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_actions
from vqvideo.data.clips import SUFFIXES
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import Item


class Episode(NamedTuple):
    """A recording from its first frame on.

    Attributes:
        frames: `[3, t, h, w]` in [-1, 1].
        actions: int64 `[t]`, each the one that led into its frame; 0 for the first.
        fps: frames per second.
    """

    frames: Tensor
    actions: Tensor
    fps: float


def episode_items(folder: str, split: str | None, *, least: int, num_actions: int) -> list[Item]:
    """The recordings of a folder, looked through before any work is done.

    Args:
        folder: with a `metadata.jsonl` that names the actions of each, as `record_maze` leaves it.
        split: "train" or "test", see `vqvideo.data.items.items_of`; None is all files.
        least: frames that each must have.
        num_actions: actions are numbers from 0 to below that.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: one has no actions, or others, or is shorter; or there is none.
        media.MediaError: one cannot be read.
    """
    items = list_items(folder, SUFFIXES[3])
    chosen = items if split is None else items_of(items, split)
    if not chosen:
        raise ValueError(
            f"{folder} has {len(items)} recordings and none of them for the split {split!r}; "
            f"metadata.jsonl says which are of which"
        )
    for item in chosen:
        if item.actions is None:
            raise ValueError(
                f"nobody knows what was done in {item.path}: metadata.jsonl must name the actions "
                f"of every recording, as that of vqvideo record-maze does"
            )
        length = media.probe(item.path).num_frames
        if length < least:
            raise ValueError(
                f"{item.path} has {length} frames; at least {least} are needed of each recording"
            )
        numbered_actions(item.actions, length, num_actions)
    return chosen


def read_episode(
    file: str | Path,
    actions: str | Path,
    *,
    size: tuple[int, int],
    num_actions: int,
    length: int | None = None,
) -> Episode:
    """The first frames of a recording, and what led into each.

    Args:
        file: a video.
        actions: a `.npy` file, see `read_actions`.
        size: height and width that the frames are cropped to.
        num_actions: actions are numbers from 0 to below that.
        length: frames; None is all.

    Raises:
        ValueError: it is shorter, or has other actions.
        media.MediaError: it cannot be read.
    """
    number = media.probe(file).num_frames
    if length is not None and length > number:
        raise ValueError(f"{file} has {number} frames; {length} were asked for")
    led = numbered_actions(actions, length or number, num_actions)
    clip = media.read_video(file, range(len(led)), size=size)
    return Episode(clip.frames, led, clip.fps)


def numbered_actions(file: str | Path, length: int, num_actions: int) -> Tensor:
    """The actions int64 `[length]` that led into the first frames of a recording.

    Raises:
        ValueError: there are too few, or others than numbers from 0 to below `num_actions`.
    """
    led = read_actions(Path(file), 0, length)
    if led.ndim > 1 or not 0 <= int(led.min()) <= int(led.max()) < num_actions:
        kind = "vectors" if led.ndim > 1 else f"{int(led.min())} to {int(led.max())}"
        raise ValueError(f"{file} must hold actions from 0 to {num_actions - 1}, got {kind}")
    return led
