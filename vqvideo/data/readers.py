"""How files of each rank are measured and read: videos, images, sound.

A reader is a description, without state: what size or rate its files are brought to. It gives
stretches of one file as float32 `[c, t, ...]` in [-1, 1]. In worker processes a file that does
not answer ends the worker, see `vqvideo.media.deadline`.

Not here: what FFmpeg does (`vqvideo.media`), which stretches are wanted (clips.py).
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
from vqvideo.data.metadata import VIDEO_SUFFIXES
from vqvideo.media.pixels import Fit

_DEADLINE = 300.0  # seconds for one stretch; a worker that waits longer waits for ever
_PIECE = 64  # frames decoded at a time where a whole video is wanted


class Extent(NamedTuple):
    """How long a file is, as it is stored.

    Attributes:
        steps: frames of a video, samples of sound; 1 for an image.
        seconds: how long they last; 0 for an image.
    """

    steps: int
    seconds: float


class Reader(ABC):
    """Reads files of one kind."""

    kind: ClassVar[str]
    is_bytes: ClassVar[bool]  # values are those of bytes, as `media.from_uint8` makes them

    @abstractmethod
    def measure(self, path: Path) -> Extent:
        """Open a file to see how long it is; raises `media.MediaError`."""

    @abstractmethod
    def length(self, extent: Extent) -> int:
        """Frames or samples that `read` can give of a file, at the rate it gives them."""

    @abstractmethod
    def read(self, path: Path, start: int, stop: int) -> Tensor:
        """Frames or samples from `start` up to `stop`, `[c, stop - start, ...]`.

        Raises:
            media.MediaError: they cannot be decoded.
        """

    def pieces(self, path: Path, length: int) -> Iterator[Tensor]:
        """All of a file of this length, as `read` gives it, piece after piece."""
        yield self.read(path, 0, length)


@dataclass(frozen=True)
class VideoReader(Reader):
    """Videos, at one size; see `media.read_video`.

    Attributes:
        size: height and width.
        fit: how frames of other proportions are brought to it.
        fps: frames per second; None keeps every file's own.
    """

    kind = "video"
    is_bytes = True

    size: tuple[int, int]
    fit: Fit = "crop"
    fps: float | None = None

    def measure(self, path: Path) -> Extent:
        with media.deadline(path, _DEADLINE):
            info = media.probe(path)
        return Extent(info.num_frames, info.duration)

    def length(self, extent: Extent) -> int:
        if self.fps is None:
            return extent.steps
        # A moment just at the end, but for rounding, is after it.
        return math.ceil(extent.seconds * self.fps - 1e-3)

    def read(self, path: Path, start: int, stop: int) -> Tensor:
        with media.deadline(path, _DEADLINE):
            if self.fps is None:
                numbers = range(start, stop)
                return media.read_video(path, numbers, size=self.size, fit=self.fit).frames
            return media.read_video(
                path,
                fps=self.fps,
                start_seconds=start / self.fps,
                num_frames=stop - start,
                size=self.size,
                fit=self.fit,
            ).frames

    def pieces(self, path: Path, length: int) -> Iterator[Tensor]:
        for start in range(0, length, _PIECE):
            yield self.read(path, start, min(start + _PIECE, length))


@dataclass(frozen=True)
class ImageReader(Reader):
    """Images, at one size: each a video of one frame; the frames of a video are images too.

    Attributes:
        size: height and width.
        fit: how pictures of other proportions are brought to it.
    """

    kind = "image"
    is_bytes = True

    size: tuple[int, int]
    fit: Fit = "crop"

    def measure(self, path: Path) -> Extent:
        if _is_video(path):
            return VideoReader(self.size, self.fit).measure(path)
        return Extent(1, 0.0)  # whether it is an image shows when it is read

    def length(self, extent: Extent) -> int:
        return extent.steps

    def read(self, path: Path, start: int, stop: int) -> Tensor:
        if _is_video(path):
            return VideoReader(self.size, self.fit).read(path, start, stop)
        assert (start, stop) == (0, 1), f"an image has one frame, not {start} to {stop}"
        with media.deadline(path, _DEADLINE):
            return media.read_image(path, size=self.size, fit=self.fit).unsqueeze(1)

    def pieces(self, path: Path, length: int) -> Iterator[Tensor]:
        if _is_video(path):
            return VideoReader(self.size, self.fit).pieces(path, length)
        return super().pieces(path, length)


@dataclass(frozen=True)
class SoundReader(Reader):
    """Sound, at one rate. Every stretch costs the decoding of the whole file.

    Attributes:
        sample_rate: in Hz.
    """

    kind = "sound"
    is_bytes = False

    sample_rate: int

    def measure(self, path: Path) -> Extent:
        with media.deadline(path, _DEADLINE):
            sound = media.read_audio(path)
        num_samples = sound.samples.shape[1]
        return Extent(num_samples, num_samples / sound.sample_rate)

    def length(self, extent: Extent) -> int:
        return math.ceil(extent.seconds * self.sample_rate - 1e-6)  # less what rounding adds

    def read(self, path: Path, start: int, stop: int) -> Tensor:
        with media.deadline(path, _DEADLINE):
            return media.read_audio(path, sample_rate=self.sample_rate).samples[:, start:stop]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
