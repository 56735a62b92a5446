"""A folder of files as windows of one shape: clips of video, images, or stretches of sound.

The rank of the model decides what is read: 3 axes are frames, height and width of video files,
2 axes an image, 1 axis sound. Files are held out where `metadata.jsonl` says so; where it says
nothing, every tenth file is, or the end of the only one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vqvideo import media
from vqvideo.cond import Cond, CondSpec
from vqvideo.data.metadata import VIDEO_SUFFIXES, Item, read_metadata

SUFFIXES = {
    1: (".wav", ".flac", ".mp3", ".m4a", ".ogg"),
    2: (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    3: VIDEO_SUFFIXES,
}

Fit = Literal["crop", "pad", "refuse"]
Sample = dict[str, Tensor]
"""`x` `[c, *axes]`, and `class_id`, `speaker` (scalars), `actions` `[t]` where every file of the
folder has them."""


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
        fit: Fit = "crop",
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
        self.classes = _names([item.class_name for item in items])
        self.speakers = _names([item.speaker for item in items])
        self.has_actions = all(item.actions for item in items)
        chosen = _of_split(items, split)
        self.windows = [
            Window(item, start) for item in chosen for start in self._starts(item, step or shape[0])
        ]
        if len(items) == 1 and items[0].split != "test":
            self.windows = _of_the_only_file(self.windows, split, shape[0])
        if not self.windows:
            raise ValueError(
                f"{folder} gives no window of {list(shape)} for the split {split!r}: "
                f"{len(items)} files, {len(chosen)} of them in this split"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        item, start = self.windows[index]
        sample: Sample = {"x": self._read(item.path, start)}
        if self.classes and item.class_name:
            sample["class_id"] = torch.tensor(self.classes.index(item.class_name))
        if self.speakers and item.speaker:
            sample["speaker"] = torch.tensor(self.speakers.index(item.speaker))
        if self.has_actions and item.actions:
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
        stop = start + self.shape[0]
        if len(self.shape) == 1:
            return media.read_audio(path, sample_rate=self.sample_rate).samples[:, start:stop]
        height, width = self.shape[-2:]
        if len(self.shape) == 2:
            return media.read_image(path, size=(height, width), fit=self.fit)
        return media.read_video(path, range(start, stop), size=(height, width), fit=self.fit).frames


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


def _names(given: list[str | None]) -> list[str]:
    """The different names, sorted; none at all unless every file has one."""
    return sorted({name for name in given if name}) if all(given) else []


def _of_split(items: list[Item], split: str) -> list[Item]:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if any(item.split == "test" for item in items):
        return [item for item in items if item.split == split]
    if len(items) == 1:
        return items
    number = max(1, len(items) // 10)  # spread evenly, so that every folder gives some
    held_out = {(2 * i + 1) * len(items) // (2 * number) for i in range(number)}
    return [item for i, item in enumerate(items) if (i in held_out) == (split == "test")]


def _of_the_only_file(windows: list[Window], split: str, length: int) -> list[Window]:
    """The last tenth of the windows for testing; no frame of theirs for training."""
    first = len(windows) - max(1, len(windows) // 10)
    if split == "test":
        return windows[first:]
    return [window for window in windows if window.start + length <= windows[first].start]


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
