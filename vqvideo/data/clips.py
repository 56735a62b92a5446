"""A folder of files as windows of one shape: clips of video, images, or stretches of sound.

The rank of the model decides what is read: 3 axes are frames, height and width of video files,
2 axes an image, 1 axis sound. Whole files are held out where `metadata.jsonl` says so; where it
says nothing, the last tenth of the windows is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vqvideo import media
from vqvideo.cond import Cond, CondSpec
from vqvideo.data.metadata import Item, read_metadata

SUFFIXES = {
    1: (".wav", ".flac", ".mp3", ".m4a", ".ogg"),
    2: (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    3: (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif"),
}

Sample = dict[str, Tensor]
"""`x` `[c, *axes]`, and `class_id`, `speaker` (scalars), `actions` `[t]` where they are known."""


class Window(NamedTuple):
    """One window of a file: `start` counts frames or sound samples, 0 for an image."""

    item: Item
    start: int


class ClipDataset(Dataset[Sample]):
    """Windows of the files of a folder.

    Args:
        folder: media files, with or without a `metadata.jsonl`.
        shape: axes of a window: (frames, height, width), (height, width) or (length,).
        split: "train" or "test".
        step: frames or sound samples between the starts of two windows; None puts them side by
            side.
        fit: how pictures of another size are brought to the shape; see `media.read_video`.
        sample_rate: Hz to which sound is resampled; needed for rank 1.

    Raises:
        ValueError: no file is long enough for a window; the message says what was found.
        media.MediaError: a file cannot be read; the message names it.
    """

    def __init__(
        self,
        folder: str | Path,
        shape: tuple[int, ...],
        *,
        split: str = "train",
        step: int | None = None,
        fit: str = "crop",
        sample_rate: int | None = None,
    ) -> None:
        if step is not None and step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        if len(shape) == 1 and sample_rate is None:
            raise ValueError("windows of sound need a sample_rate in Hz")
        self.shape, self.fit, self.sample_rate = shape, fit, sample_rate
        items = read_metadata(folder, SUFFIXES[len(shape)])
        if not items:
            raise ValueError(
                f"{folder} holds no file ending in {', '.join(SUFFIXES[len(shape)])} "
                f"and no metadata.jsonl"
            )
        self.classes = sorted({item.class_name for item in items if item.class_name})
        self.speakers = sorted({item.speaker for item in items if item.speaker})
        windows = [
            Window(item, start) for item in items for start in self._starts(item, step or shape[0])
        ]
        held_out = any(item.split == "test" for item in items)
        self.windows = _of_split(windows, split, held_out)
        if not self.windows:
            raise ValueError(
                f"{folder} gives no window of {list(shape)} for the split {split!r}: "
                f"{len(items)} files, {len(windows)} windows in all"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        item, start = self.windows[index]
        sample: Sample = {"x": self._read(item.path, start)}
        if item.class_name:
            sample["class_id"] = torch.tensor(self.classes.index(item.class_name))
        if item.speaker:
            sample["speaker"] = torch.tensor(self.speakers.index(item.speaker))
        if item.actions:
            sample["actions"] = _actions(item.actions, start, self.shape[0])
        return sample

    def _starts(self, item: Item, step: int) -> range:
        if len(self.shape) == 2:
            return range(1)
        if len(self.shape) == 3:
            length = media.probe(item.path).num_frames
        else:
            length = media.read_audio(item.path, sample_rate=self.sample_rate).samples.shape[1]
        return range(0, length - self.shape[0] + 1, step)

    def _read(self, path: Path, start: int) -> Tensor:
        readers: dict[int, Callable[[], Tensor]] = {
            1: lambda: media.read_audio(path, sample_rate=self.sample_rate).samples[
                :, start : start + self.shape[0]
            ],
            2: lambda: media.read_image(path, size=self.shape, fit=self.fit),  # type: ignore[arg-type]
            3: lambda: (
                media.read_video(
                    path,
                    range(start, start + self.shape[0]),
                    size=self.shape[1:],  # type: ignore[arg-type]
                    fit=self.fit,  # type: ignore[arg-type]
                ).frames
            ),
        }
        return readers[len(self.shape)]()


def cond_of(batch: Sample, spec: CondSpec) -> Cond | None:
    """What a model of `spec` is told about a batch; None if it takes nothing.

    Raises:
        ValueError: the data lacks what the model takes.
    """
    wanted = {
        "class_id": bool(spec.num_classes),
        "speaker": bool(spec.num_speakers),
        "actions": spec.takes_actions,
        "local": bool(spec.local_channels),
    }
    missing = [name for name, needed in wanted.items() if needed and name not in batch]
    if missing:
        raise ValueError(f"the model takes {missing[0]}, which the data does not have")
    told = {name: batch[name] for name, needed in wanted.items() if needed}
    return Cond(**told) if told else None


def _of_split(windows: list[Window], split: str, held_out: bool) -> list[Window]:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if held_out:
        return [window for window in windows if window.item.split == split]
    kept = len(windows) - max(1, len(windows) // 10)
    return windows[:kept] if split == "train" else windows[kept:]


def _actions(path: Path, start: int, length: int) -> Tensor:
    """One action per frame: the one that led into it; 0 for the first frame of a recording."""
    recorded = np.load(path, allow_pickle=False)
    if recorded.ndim == 1 and not np.issubdtype(recorded.dtype, np.integer):
        raise ValueError(
            f"{path} must hold integers [t] or numbers [t, a], got {recorded.dtype} [t]"
        )
    led = np.concatenate([np.zeros_like(recorded[:1]), recorded])[start : start + length]
    if len(led) < length:
        raise ValueError(
            f"{path} holds {len(recorded)} actions; frames {start} to {start + length - 1} "
            f"need {start + length - 1}"
        )
    return torch.from_numpy(led.astype(np.float32 if led.ndim > 1 else np.int64))
