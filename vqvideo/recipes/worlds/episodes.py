"""Read whole episodes: recorded videos with the actions between their frames.

Not here: windows of one length for training (clips.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_frame_actions
from vqvideo.data.clips import SUFFIXES_BY_RANK
from vqvideo.data.items import list_items, select_split
from vqvideo.data.metadata import Item
from vqvideo.media.files import wrap_read_errors


class Episode(NamedTuple):
    """A recorded episode, from its first frame.

    Attributes:
        frames: `[3, t, h, w]` in [-1, 1].
        actions: int64 `[t]`, the action that led to each frame; 0 for the first frame.
        fps: frames per second.
    """

    frames: Tensor
    actions: Tensor
    fps: float


def list_episodes(
    folder: str, split: str | None, *, min_frames: int, num_actions: int
) -> list[Item]:
    """List the episodes of a folder, after checking their lengths and actions.

    Args:
        folder: a folder with a `metadata.jsonl` that names the actions of each episode, as
            `record_maze` writes it.
        split: "train" or "test", see `vqvideo.data.items.select_split`; None is all files.
        min_frames: minimum number of frames of an episode.
        num_actions: number of actions; they are integers from 0 to `num_actions - 1`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there is no episode, or one has no actions, invalid actions or too few frames.
        media.MediaError: an episode cannot be read.
    """
    items = list_items(folder, SUFFIXES_BY_RANK[3])
    selected = items if split is None else select_split(items, split)
    if not selected:
        raise ValueError(
            f"{folder} has {len(items)} recordings, none of them for the split {split!r}; "
            f"set 'split' in metadata.jsonl"
        )
    for item in selected:
        if item.actions is None:
            raise ValueError(
                f"there are no actions for {item.path}: metadata.jsonl must name the actions "
                f"of every recording, as vqvideo record-maze writes it"
            )
        with wrap_read_errors(item.path):
            length = media.probe(item.path).num_frames
        if length < min_frames:
            raise ValueError(
                f"{item.path} has {length} frames, expected at least {min_frames} in each recording"
            )
        read_discrete_actions(item.actions, length, num_actions)
    return selected


def read_episode(
    file: str | Path,
    actions: str | Path,
    *,
    size: tuple[int, int],
    num_actions: int,
    length: int | None = None,
) -> Episode:
    """Read the first frames of an episode and the action that led to each.

    Args:
        file: a video.
        actions: a `.npy` file, see `read_frame_actions`.
        size: (height, width) that the frames are resized and cropped to.
        num_actions: number of actions; they are integers from 0 to `num_actions - 1`.
        length: number of frames; None reads all.

    Raises:
        ValueError: the episode is too short or has invalid actions.
        media.MediaError: the episode cannot be read.
    """
    file = Path(file)
    with wrap_read_errors(file):
        num_frames = media.probe(file).num_frames
    if length is not None and length > num_frames:
        raise ValueError(f"{file} has {num_frames} frames, but {length} were requested")
    frame_actions = read_discrete_actions(actions, length or num_frames, num_actions)
    with wrap_read_errors(file):
        clip = media.read_video(file, range(len(frame_actions)), size=size)
    return Episode(clip.frames, frame_actions, clip.fps)


def read_discrete_actions(file: str | Path, length: int, num_actions: int) -> Tensor:
    """Return the actions int64 `[length]` that led to the first frames of an episode.

    Raises:
        ValueError: there are too few, or they are not integers from 0 to `num_actions - 1`.
    """
    actions = read_frame_actions(Path(file), 0, length)
    if actions.ndim > 1 or not 0 <= int(actions.min()) <= int(actions.max()) < num_actions:
        kind = "vectors" if actions.ndim > 1 else f"{int(actions.min())} to {int(actions.max())}"
        raise ValueError(f"{file} must hold actions from 0 to {num_actions - 1}, got {kind}")
    return actions
