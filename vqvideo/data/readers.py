"""Readers that measure and read media files: videos, images and audio.

A reader has no state, only the size or rate to convert files to. It returns consecutive frames or
samples of a file as float32 `[c, t, ...]` in [-1, 1]. Whatever is raised meanwhile, because the
file is damaged, deleted or replaced or its disk fails, becomes a `media.MediaError` that names it.
In a worker process, a file that does not respond ends the worker, see `vqvideo.media.deadline`.

Not here: decoding (`vqvideo.media`), the choice of windows (clips.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor

from vqvideo import media
from vqvideo.media.files import wrap_read_errors
from vqvideo.media.formats import VIDEO_SUFFIXES
from vqvideo.media.pixels import Fit, check_size
from vqvideo.media.timestamps import check_fps

_TIMEOUT = 300.0  # seconds per read; a worker that waits longer is assumed to hang
_CHUNK_SIZE = 64  # frames decoded at a time when a whole video is read


class Extent(NamedTuple):
    """Length of a stored file.

    Attributes:
        num_steps: frames of a video or samples of audio; 1 for an image.
        seconds: duration; 0 for an image.
    """

    num_steps: int
    seconds: float


class Reader(ABC):
    """Base class of readers, each for one kind of media files."""

    kind: ClassVar[str]
    steps: ClassVar[str] = "frames"  # what `start` and `stop` count
    is_uint8: ClassVar[bool]  # whether the values are exact results of `media.from_uint8`

    def measure(self, path: Path) -> Extent:
        """Open a file and return its length.

        Raises:
            media.MediaError: the file cannot be read.
        """
        with wrap_read_errors(path), media.deadline(path, _TIMEOUT):
            return self._measure(path)

    @abstractmethod
    def compute_length(self, extent: Extent) -> int:
        """Return the number of frames or samples of a file at the rate of this reader."""

    def read(self, path: Path, start: int, stop: int) -> Tensor:
        """Read frames or samples from `start` to before `stop`, `[c, stop - start, ...]`.

        Raises:
            media.MediaError: the frames or samples cannot be decoded, or the file has fewer.
        """
        with wrap_read_errors(path), media.deadline(path, _TIMEOUT):
            x = self._read(path, start, stop)
        if x.shape[1] != stop - start:
            raise media.MediaError(
                f"{path} ends after {start + x.shape[1]} {self.steps}, expected at least {stop}: "
                "it has changed since it was measured"
            )
        return x

    def iter_chunks(self, path: Path, length: int) -> Iterator[Tensor]:
        """Read a whole file of this length chunk by chunk."""
        yield self.read(path, 0, length)

    @abstractmethod
    def _measure(self, path: Path) -> Extent: ...

    @abstractmethod
    def _read(self, path: Path, start: int, stop: int) -> Tensor: ...


@dataclass(frozen=True)
class VideoReader(Reader):
    """Reader of videos at one size; see `media.read_video`.

    Attributes:
        size: height and width in pixels.
        fit: how frames of another aspect ratio are brought to `size`.
        fps: frames per second; None keeps the rate of each file.
    """

    kind = "video"
    is_uint8 = True

    size: tuple[int, int]
    fit: Fit = "crop"
    fps: float | None = None

    def _measure(self, path: Path) -> Extent:
        info = media.probe(path)
        return Extent(info.num_frames, info.duration)

    def compute_length(self, extent: Extent) -> int:
        if self.fps is None:
            return extent.num_steps
        # A time at the end of the video, up to rounding, counts as after it.
        return math.ceil(extent.seconds * self.fps - 1e-3)

    def _read(self, path: Path, start: int, stop: int) -> Tensor:
        if self.fps is None:
            indices = range(start, stop)
            return media.read_video(path, indices, size=self.size, fit=self.fit).frames
        return media.read_video(
            path,
            fps=self.fps,
            start_seconds=start / self.fps,
            num_frames=stop - start,
            size=self.size,
            fit=self.fit,
        ).frames

    def iter_chunks(self, path: Path, length: int) -> Iterator[Tensor]:
        for start in range(0, length, _CHUNK_SIZE):
            yield self.read(path, start, min(start + _CHUNK_SIZE, length))


@dataclass(frozen=True)
class ImageReader(Reader):
    """Reader of images at one size: an image file has one frame, a video file all its frames.

    Attributes:
        size: height and width in pixels.
        fit: how images of another aspect ratio are brought to `size`.
    """

    kind = "image"
    is_uint8 = True

    size: tuple[int, int]
    fit: Fit = "crop"

    def _measure(self, path: Path) -> Extent:
        if _is_video(path):
            return VideoReader(self.size, self.fit).measure(path)
        return Extent(1, 0.0)  # the format is checked when the image is read

    def compute_length(self, extent: Extent) -> int:
        return extent.num_steps

    def _read(self, path: Path, start: int, stop: int) -> Tensor:
        if _is_video(path):
            return VideoReader(self.size, self.fit).read(path, start, stop)
        assert (start, stop) == (0, 1), f"an image has one frame, got {start} to {stop}"
        return media.read_image(path, size=self.size, fit=self.fit).unsqueeze(1)

    def iter_chunks(self, path: Path, length: int) -> Iterator[Tensor]:
        if _is_video(path):
            return VideoReader(self.size, self.fit).iter_chunks(path, length)
        return super().iter_chunks(path, length)


@dataclass(frozen=True)
class AudioReader(Reader):
    """Reader of audio at one sample rate; every read decodes the whole file.

    Attributes:
        sample_rate: sample rate in Hz.
    """

    kind = "sound"
    steps = "samples"
    is_uint8 = False

    sample_rate: int

    def _measure(self, path: Path) -> Extent:
        audio = media.read_audio(path)
        num_samples = audio.samples.shape[1]
        return Extent(num_samples, num_samples / audio.sample_rate)

    def compute_length(self, extent: Extent) -> int:
        return math.ceil(extent.seconds * self.sample_rate - 1e-6)  # minus the rounding error

    def _read(self, path: Path, start: int, stop: int) -> Tensor:
        return media.read_audio(path, sample_rate=self.sample_rate).samples[:, start:stop]


def build_reader(
    shape: tuple[int, ...],
    fit: Fit = "crop",
    fps: float | None = None,
    sample_rate: int | None = None,
) -> Reader:
    """Return the reader for windows of a shape.

    Args:
        shape: (frames, height, width), (height, width) or (length,).
        fit: how frames and images of another size are brought to the shape.
        fps: frames per second of videos; None keeps the rate of each file.
        sample_rate: sample rate of audio in Hz.

    Raises:
        ValueError: an option is invalid or does not apply to this shape.
    """
    if fps is not None and len(shape) != 3:
        raise ValueError(f"fps is for clips (frames, height, width), got the shape {list(shape)}")
    if fps is not None:
        check_fps(fps)
    if len(shape) == 1:
        if sample_rate is None:
            raise ValueError("windows of audio need a sample_rate in Hz")
        return AudioReader(sample_rate)
    size = shape[-2], shape[-1]
    check_size(size, fit)
    return VideoReader(size, fit, fps) if len(shape) == 3 else ImageReader(size, fit)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
