"""Files as windows of one shape: clips of video, images, or stretches of sound.

The rank of the model decides what is read: 3 axes are frames, height and width of video files,
2 axes an image or a frame of a video, 1 axis sound. A window is known by its file and where it
starts in it; opening files is left to whoever asks for the window, so that worker processes share
the decoding.

Not here: which files there are and which are held out (items.py), how they are read
(readers.py), what is kept of them between two runs (index.py, decoded.py), the order of
training (order.py).
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vqvideo import media
from vqvideo.cond import Cond
from vqvideo.data.actions import read_actions
from vqvideo.data.corrupt import CorruptFiles, TooManyCorruptError
from vqvideo.data.decoded import DecodedFiles
from vqvideo.data.index import index_files
from vqvideo.data.items import different_names, items_of, list_items, starts_of_the_only_file
from vqvideo.data.metadata import VIDEO_SUFFIXES, Item
from vqvideo.data.readers import ImageReader, Reader, SoundReader, VideoReader
from vqvideo.media.pixels import Fit

SUFFIXES = {
    1: (".wav", ".flac", ".mp3", ".m4a", ".ogg"),
    2: (".png", ".jpg", ".jpeg", ".webp", ".bmp", *VIDEO_SUFFIXES),
    3: VIDEO_SUFFIXES,
}

Sample = dict[str, Tensor]
"""`x` `[c, *axes]`, and `class_id`, `speaker` (scalars), `actions` `[t]` where every file of the
folder has them."""

_log = logging.getLogger(__name__)


class Window(NamedTuple):
    """One window of a file: `start` counts frames or sound samples, 0 for an image."""

    item: Item
    start: int


class ClipDataset(Dataset[Sample]):
    """Windows of the files of a folder, or of a list of files.

    The files are measured once (see index.py) and not opened again until a window is asked for.
    Files that cannot be measured are left out: `skipped` names them. A window that cannot be
    decoded is replaced by the next one that can, so that sample i is the same in every process
    and pass; its file is named in the log and in `skipped`. `read` replaces nothing.

    Args:
        folder: media files, with or without a `metadata.jsonl`; or paths of such files, of which
            then nothing else is known.
        shape: axes of a window: (frames, height, width), (height, width) or (length,).
        split: "train" or "test".
        step: frames or sound samples between the starts of two windows; None puts them side by
            side, so that every frame of a video is an image.
        fit: how pictures of another size are brought to the shape; see `media.read_video`.
        fps: frames per second of the windows, whatever the files have; frames are left out or
            repeated, see `media.frames_at`. None keeps the rate of each file.
        sample_rate: Hz to which sound is resampled; needed for rank 1, else of no meaning.
        cache: a folder for the decoded files, see decoded.py; None decodes anew each time.
        max_corrupt: which share of the files of the split may be unreadable and skipped. Of fewer
            than 100 files, the default allows none.
        progress: called with (files measured, files to be measured), if any must be.

    Attributes:
        classes: names of the classes, sorted: `class_id` counts them. Empty unless every file has
            one.
        speakers: likewise.
        has_actions: whether every file has actions; never for images, between which nothing is
            done.

    Raises:
        ValueError: no file is long enough for a window (the message says what was found), `fps`
            for files with actions, which belong to their frames, or an option out of range.
        media.MediaError: too many files cannot be read; the message names some.
        FileNotFoundError: the folder or a file does not exist.
    """

    def __init__(
        self,
        folder: str | Path | Sequence[str | Path],
        shape: tuple[int, ...],
        *,
        split: str = "train",
        step: int | None = None,
        fit: Fit = "crop",
        fps: float | None = None,
        sample_rate: int | None = None,
        cache: str | Path | None = None,
        max_corrupt: float = 0.01,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if step is not None and step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self.shape, self._reader = shape, _reader(shape, fit, fps, sample_rate)
        items = list_items(folder, SUFFIXES[len(shape)])
        self.classes = different_names([item.class_name for item in items])
        self.speakers = different_names([item.speaker for item in items])
        self.has_actions = len(shape) != 2 and all(item.actions for item in items)
        if self.has_actions and fps is not None:
            raise ValueError(
                f"actions belong to the frames of a file, which fps={fps:g} leaves out or repeats; "
                "leave fps out, or the actions out of metadata.jsonl"
            )
        chosen = items_of(items, split)
        paths = [item.path for item in chosen]
        self._corrupt = CorruptFiles(paths, max_corrupt)
        extents = index_files(paths, self._reader, refuse=self._corrupt.add, progress=progress)
        self._lengths = {path: self._reader.length(extent) for path, extent in extents.items()}
        self._decoded = None if cache is None else DecodedFiles(cache, self._reader)
        self._items = [item for item in chosen if item.path in extents]
        self._starts = self._starts_of_files(step)
        if len(items) == 1 and items[0].split != "test":
            window = self._window_length
            self._starts = [starts_of_the_only_file(s, split, window) for s in self._starts]
        self._stops = list(accumulate(len(starts) for starts in self._starts))  # numbers of windows
        self._unreadable: set[int] = set()
        if not len(self):
            where = folder if isinstance(folder, str | Path) else "the list"
            raise ValueError(
                f"{where} gives no window of {list(shape)} for the split {split!r}: "
                f"{len(items)} files, {len(chosen)} of them in this split"
            )

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        for number in chain(range(index, len(self)), range(index)):
            if number in self._unreadable:
                continue
            try:
                return self.read(number)
            except TooManyCorruptError:
                raise
            except media.MediaError:
                continue
        raise media.MediaError(f"not one of {len(self)} windows can be decoded; see the log")

    def read(self, index: int) -> Sample:
        """Window `index` itself, never another in its place: for figures of single files.

        Raises:
            media.MediaError: it cannot be decoded; its file is in `skipped` from then on.
            TooManyCorruptError: and so there are too many such files.
        """
        index = range(len(self))[index]
        window = self.window(index)
        try:
            return self._sample(window)
        except media.MediaError as error:
            self._unreadable.add(index)
            self._skip(window.item.path, error)
            raise

    @property
    def items(self) -> list[Item]:
        """The files of the split that can be measured, in their order."""
        return list(self._items)

    @property
    def windows(self) -> list[Window]:
        """All windows, in their order: which file each is of, and where it starts."""
        files = zip(self._items, self._starts, strict=True)
        return [Window(item, start) for item, starts in files for start in starts]

    def window(self, index: int) -> Window:
        """Which window item `index` is."""
        file = bisect_right(self._stops, index)
        before = self._stops[file - 1] if file else 0
        return Window(self._items[file], self._starts[file][index - before])

    def name(self, index: int) -> str:
        """Which window item `index` is, for people."""
        item, start = self.window(index)
        return f"{item.path} from {start}"

    @property
    def skipped(self) -> list[tuple[Path, str]]:
        """Files that could not be read so far, by any worker process, and why."""
        return self._corrupt.list()

    def fill_cache(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all files into the cache now, rather than each when it is first asked for.

        Args:
            progress: called with (files done, files in all).

        Raises:
            ValueError: the data set has no cache.
            media.MediaError: too many files cannot be read.
            OSError: the cache cannot be written to, or the disk is full.
        """
        if self._decoded is None:
            raise ValueError("there is no cache to fill; make the data set with cache=FOLDER")
        for done, (path, length) in enumerate(self._lengths.items(), start=1):
            try:
                self._decoded.fill(path, length)
            except media.MediaError as error:
                self._skip(path, error)
            if progress:
                progress(done, len(self._lengths))

    def _skip(self, path: Path, error: media.MediaError) -> None:
        if self._corrupt.add(path, error):
            _log.warning("%s (its clips are left out, or others take their place)", error)

    @property
    def _window_length(self) -> int:
        return 1 if len(self.shape) == 2 else self.shape[0]

    def _starts_of_files(self, step: int | None) -> list[range]:
        """Where the windows of each file start."""
        window = self._window_length
        lengths = (self._lengths[item.path] for item in self._items)
        return [range(0, length - window + 1, step or window) for length in lengths]

    def _sample(self, window: Window) -> Sample:
        item, start = window
        sample: Sample = {"x": self._read(item.path, start)}
        if self.classes and item.class_name:
            sample["class_id"] = torch.tensor(self.classes.index(item.class_name))
        if self.speakers and item.speaker:
            sample["speaker"] = torch.tensor(self.speakers.index(item.speaker))
        if self.has_actions and item.actions:
            sample["actions"] = read_actions(item.actions, start, self.shape[0])
        return sample

    def _read(self, path: Path, start: int) -> Tensor:
        stop = start + self._window_length
        if self._decoded is None:
            x = self._reader.read(path, start, stop)
        else:
            x = self._decoded.read(path, self._lengths[path], start, stop)
        return x.reshape(-1, *self.shape)  # an image has no axis of time


def cond_of(
    batch: Sample, takes: Sequence[str], device: torch.device | str | None = None
) -> Cond | None:
    """What a model on a device is told about a batch, which takes these conditions (see
    `CondSpec.takes`); None if it takes none.

    Raises:
        ValueError: the data lacks what the model takes.
    """
    missing = [name for name in takes if name not in batch]
    if missing:
        raise ValueError(f"the model takes {missing[0]}, which the data does not have")
    told = {name: batch[name] for name in takes}
    if not told:
        return None
    return Cond(**told) if device is None else Cond(**told).to(device)


def _reader(shape: tuple[int, ...], fit: Fit, fps: float | None, sample_rate: int | None) -> Reader:
    """What reads windows of this shape."""
    if fps is not None and len(shape) != 3:
        raise ValueError(f"fps is for clips (frames, height, width), got the shape {list(shape)}")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    if len(shape) == 3:
        return VideoReader((shape[1], shape[2]), fit, fps)
    if len(shape) == 2:
        return ImageReader((shape[0], shape[1]), fit)
    if sample_rate is None:
        raise ValueError("windows of sound need a sample_rate in Hz")
    return SoundReader(sample_rate)
