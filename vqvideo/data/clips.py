"""A data set of windows of one shape: clips of video, images, or segments of audio.

The number of axes of the window determines the medium: 3 axes are frames, height and width of
video files, 2 axes an image or a frame of a video, 1 axis audio. A window is identified by its
file and its start. Files are opened only when a window is read, so that worker processes share
the decoding.

Not here: listing and splitting the files (items.py), reading them (readers.py), caches between
runs (length_cache.py, decoded_cache.py), the order of training (batch_sampler.py).
"""

from __future__ import annotations

import logging
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
from vqvideo.data.actions import read_frame_actions
from vqvideo.data.corrupt_files import CorruptFiles, TooManyCorruptError
from vqvideo.data.decoded_cache import DecodedCache
from vqvideo.data.items import collect_names, list_items, select_split, split_starts
from vqvideo.data.length_cache import measure_lengths
from vqvideo.data.metadata import Item
from vqvideo.data.readers import build_reader
from vqvideo.media.files import wrap_read_errors
from vqvideo.media.formats import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vqvideo.media.pixels import Fit

SUFFIXES_BY_RANK = {1: AUDIO_SUFFIXES, 2: IMAGE_SUFFIXES + VIDEO_SUFFIXES, 3: VIDEO_SUFFIXES}

Sample = dict[str, Tensor]
"""`x` `[c, *axes]`, and `class_id`, `speaker` (scalars) and `actions` `[t]` if every file of the
folder has them."""

_log = logging.getLogger(__name__)


class Window(NamedTuple):
    """One window of a file: `start` counts frames or audio samples and is 0 for an image."""

    item: Item
    start: int


class ClipDataset(Dataset[Sample]):
    """Windows of the files in a folder or in a list.

    The lengths of the files are measured once (see length_cache.py); after that a file is opened
    only to read a window. Files that cannot be measured are left out and listed in `skipped`. A
    window that cannot be read, whatever the cause, is replaced by the next one that can, so that
    sample i is the same in every process and epoch; its file is logged and listed in `skipped`.
    `read` never replaces a window.

    Args:
        folder: a folder of media files, with or without a `metadata.jsonl`; or a list of files,
            which then have no metadata.
        shape: axes of a window: (frames, height, width), (height, width) or (length,).
        split: "train" or "test".
        clip_stride: frames or audio samples between the starts of two windows; None makes windows
            adjacent, so that every frame of a video is an image.
        fit: how frames and images of another size are brought to the shape; see
            `media.read_video`.
        fps: frames per second of the windows, for any rate of the files; frames are skipped or
            repeated, see `media.get_frame_indices`. None keeps the rate of each file.
        sample_rate: rate in Hz to which audio is resampled; required for audio, otherwise unused.
        cache_dir: a folder for the decoded files, see decoded_cache.py; None disables the cache.
        max_corrupt: fraction of the files of the split that may be unreadable and are skipped.
            With fewer than 100 files, the default allows none.
        progress: called with (files measured, files to measure), if any must be measured.

    Attributes:
        classes: sorted names of the classes, indexed by `class_id`. Empty unless every file has a
            class.
        speakers: sorted names of the speakers, indexed by `speaker`. Empty unless every file has a
            speaker.
        has_actions: whether every file has actions; always false for images.

    Raises:
        ValueError: no file is long enough for a window (the message counts the files), `fps` is
            given for files with actions, which belong to their frames, or an option is out of
            range.
        media.MediaError: too many files cannot be read; the message names some of them.
        FileNotFoundError: the folder or a file does not exist.
    """

    def __init__(
        self,
        folder: str | Path | Sequence[str | Path],
        shape: tuple[int, ...],
        *,
        split: str = "train",
        clip_stride: int | None = None,
        fit: Fit = "crop",
        fps: float | None = None,
        sample_rate: int | None = None,
        cache_dir: str | Path | None = None,
        max_corrupt: float = 0.01,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if clip_stride is not None and clip_stride < 1:
            raise ValueError(f"clip_stride must be at least 1, got {clip_stride}")
        self.shape, self._reader = shape, build_reader(shape, fit, fps, sample_rate)
        items = list_items(folder, SUFFIXES_BY_RANK[len(shape)])
        self.classes = collect_names([item.class_name for item in items])
        self.speakers = collect_names([item.speaker for item in items])
        self.has_actions = len(shape) != 2 and all(item.actions for item in items)
        if self.has_actions and fps is not None:
            raise ValueError(
                f"actions belong to the frames of a file, which fps={fps:g} skips or repeats; "
                "omit fps, or remove the actions from metadata.jsonl"
            )
        split_items = select_split(items, split)
        paths = [item.path for item in split_items]
        self._corrupt_files = CorruptFiles(paths, max_corrupt)
        extents = measure_lengths(
            paths, self._reader, on_error=self._corrupt_files.add, progress=progress
        )
        self._lengths = {
            path: self._reader.compute_length(extent) for path, extent in extents.items()
        }
        self._decoded_cache = None if cache_dir is None else DecodedCache(cache_dir, self._reader)
        self._items = [item for item in split_items if item.path in extents]
        self._starts = self._compute_starts(clip_stride)
        if len(items) == 1 and items[0].split != "test":
            window = self._window_length
            self._starts = [split_starts(s, split, window) for s in self._starts]
        self._cumulative_sizes = list(accumulate(len(starts) for starts in self._starts))
        self._unreadable: set[int] = set()
        if not len(self):
            source = folder if isinstance(folder, str | Path) else "the list"
            raise ValueError(
                f"{source} has no window of {list(shape)} for the split {split!r}: "
                f"{len(items)} files, {len(split_items)} of them in this split"
            )

    def __len__(self) -> int:
        return self._cumulative_sizes[-1] if self._cumulative_sizes else 0

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
        raise media.MediaError(f"none of the {len(self)} windows can be decoded; see the log")

    def read(self, index: int) -> Sample:
        """Read window `index` without replacement, for metrics of single files.

        Raises:
            media.MediaError: the window cannot be decoded; its file is added to `skipped`.
            TooManyCorruptError: too many files cannot be decoded.
        """
        index = range(len(self))[index]
        window = self.get_window(index)
        try:
            return self._build_sample(window)
        except media.MediaError as error:
            self._unreadable.add(index)
            self._add_corrupt(window.item.path, error)
            raise

    @property
    def items(self) -> list[Item]:
        """The files of the split that can be measured, in order."""
        return list(self._items)

    @property
    def windows(self) -> list[Window]:
        """All windows in order, each with its file and start."""
        item_starts = zip(self._items, self._starts, strict=True)
        return [Window(item, start) for item, starts in item_starts for start in starts]

    def get_window(self, index: int) -> Window:
        """Return the file and start of window `index`."""
        file_index = bisect_right(self._cumulative_sizes, index)
        offset = self._cumulative_sizes[file_index - 1] if file_index else 0
        return Window(self._items[file_index], self._starts[file_index][index - offset])

    def describe(self, index: int) -> str:
        """Describe window `index` for messages: its file and start."""
        item, start = self.get_window(index)
        return f"{item.path} from {start}"

    @property
    def skipped(self) -> list[tuple[Path, str]]:
        """Files that no worker process could read so far, each with the reason."""
        return self._corrupt_files.to_list()

    def fill_cache(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all files into the cache now instead of on first use.

        Args:
            progress: called with (files decoded, total number of files).

        Raises:
            ValueError: the data set has no cache.
            media.MediaError: too many files cannot be read.
            OSError: the cache cannot be written, or the disk is full.
        """
        if self._decoded_cache is None:
            raise ValueError("there is no cache to fill; create the data set with cache_dir=FOLDER")
        for done, (path, length) in enumerate(self._lengths.items(), start=1):
            try:
                self._decoded_cache.fill(path, length)
            except media.MediaError as error:
                self._add_corrupt(path, error)
            if progress:
                progress(done, len(self._lengths))

    def _add_corrupt(self, path: Path, error: media.MediaError) -> None:
        if self._corrupt_files.add(path, error):
            message = str(error).encode(errors="backslashreplace").decode()  # of any file name
            _log.warning("%s (its clips are skipped or replaced by others)", message)

    @property
    def _window_length(self) -> int:
        return 1 if len(self.shape) == 2 else self.shape[0]

    def _compute_starts(self, clip_stride: int | None) -> list[range]:
        """Return the start of each window, one range per file."""
        window = self._window_length
        lengths = (self._lengths[item.path] for item in self._items)
        return [range(0, length - window + 1, clip_stride or window) for length in lengths]

    def _build_sample(self, window: Window) -> Sample:
        item, start = window
        sample: Sample = {"x": self._read(item.path, start)}
        if self.classes and item.class_name:
            sample["class_id"] = torch.tensor(self.classes.index(item.class_name))
        if self.speakers and item.speaker:
            sample["speaker"] = torch.tensor(self.speakers.index(item.speaker))
        if self.has_actions and item.actions:
            with wrap_read_errors(item.path):
                sample["actions"] = read_frame_actions(item.actions, start, self.shape[0])
        return sample

    def _read(self, path: Path, start: int) -> Tensor:
        stop = start + self._window_length
        if self._decoded_cache is None:
            x = self._reader.read(path, start, stop)
        else:
            x = self._decoded_cache.read(path, self._lengths[path], start, stop)
        return x.reshape(-1, *self.shape)  # an image has no time axis


def cond_from_batch(
    batch: Sample, keys: Sequence[str], device: torch.device | str | None = None
) -> Cond | None:
    """Return the conditions of a batch for a model, on `device`; None if `keys` is empty.

    Args:
        batch: a batch of samples.
        keys: names of the conditions that the model takes, see `CondSpec.keys`.
        device: the device to move them to; None leaves them where they are.

    Raises:
        ValueError: the data lacks a condition that the model takes.
    """
    missing = [name for name in keys if name not in batch]
    if missing:
        raise ValueError(f"the model takes {missing[0]}, which the data does not have")
    fields = {name: batch[name] for name in keys}
    if not fields:
        return None
    return Cond(**fields) if device is None else Cond(**fields).to(device)
