"""Prefixes of generated clips: the first frames of a video, or the start of an audio file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_frame_actions

if TYPE_CHECKING:
    from vqvideo.generator import Generator

DEFAULT_NUM_FRAMES = 8  # of a video prefix
DEFAULT_SECONDS = 1.0  # of an audio prefix


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A real clip to continue: the first frames of a video, resized to the model; or audio.

    Attributes:
        file: a video, or a file with audio for an audio model.
        num_frames: number of frames, or of samples at the model's rate, to keep: a multiple of the
            model's temporal stride. None for 8 frames, or `seconds` of audio.
        seconds: seconds of audio to keep, rounded down to whole codes.
        fit: how frames of another size are handled: "crop" cuts, "pad" adds borders, "refuse"
            raises; None crops.
    """

    file: str
    num_frames: int | None = None
    seconds: float | None = None
    fit: Literal["crop", "pad", "refuse"] | None = None

    def get_length(self, generator: Generator) -> int:
        """Return the number of frames or audio samples of the prefix for a model.

        Raises:
            ValueError: the model is for images; both lengths are given, or `seconds` for a video;
                or the prefix is shorter than one code.
        """
        rank, stride = generator.vqvae.rank, generator.vqvae.downsampling[0]
        if rank == 2:
            raise ValueError("only a model of video or audio can continue a clip")
        if self.seconds is not None and (rank == 3 or self.num_frames is not None):
            raise ValueError(
                "prefix seconds are for audio, in place of num_frames; give num_frames for video"
            )
        if self.fit is not None and rank == 1:
            raise ValueError(f"fit={self.fit!r} is for images and video; audio has no frame size")
        if self.num_frames is not None:
            if self.num_frames < 1:
                raise ValueError(f"a prefix must have at least 1 frame, got {self.num_frames}")
            return self.num_frames
        if rank == 3:
            return DEFAULT_NUM_FRAMES
        seconds = DEFAULT_SECONDS if self.seconds is None else self.seconds
        is_valid = math.isfinite(seconds) and seconds > 0
        num_codes = int(seconds * generator.config.rate) // stride if is_valid else 0
        if num_codes < 1:
            raise ValueError(
                f"a prefix must hold at least one code, {stride / generator.config.rate:.4f} s; "
                f"got {seconds} s"
            )
        return num_codes * stride

    def read_actions(self) -> Tensor | None:
        """Return the action that led to each frame of the file, see `read_recorded_actions`."""
        return read_recorded_actions(self.file)

    def validate_length(self, generator: Generator) -> int:
        """Return the length as `get_length` does; check it against the strides and the video.

        Raises:
            ValueError: as `read`.
        """
        length, frame_shape = self.get_length(generator), tuple(generator.sample_shape or ())[1:]
        generator.vqvae.compute_grid_shape((length, *frame_shape))
        if generator.vqvae.rank == 3:
            self._check_available(media.probe(self.file).num_frames, length, "frames")
        return length

    def read(self, generator: Generator) -> tuple[Tensor, dict[str, Any]]:
        """Read the prefix `[c, n, ...]`, and return it with its entries for the JSON record.

        Raises:
            ValueError: the file is too short, or the model does not accept the length.
            media.MediaError: the file cannot be read.
        """
        length = self.validate_length(generator)
        if generator.vqvae.rank == 1:
            rate = int(generator.config.rate)
            samples = media.read_audio(self.file, sample_rate=rate).samples
            self._check_available(samples.shape[1], length, f"samples at {rate} Hz")
            return samples[:, :length], {
                "file": self.file,
                "num_frames": length,
                "sample_rate": rate,
            }
        info, (_, height, width) = media.probe(self.file), generator.sample_shape or ()
        fit = self.fit or "crop"
        video = media.read_video(self.file, range(length), size=(height, width), fit=fit)
        size = [info.height, info.width]
        record = {"file": self.file, "num_frames": length, "fit": fit, "size": size}
        return video.frames, {**record, "fps": video.fps}

    def _check_available(self, available: int, length: int, unit: str) -> None:
        """Raise `ValueError` if the file is shorter than the prefix."""
        if available < length:
            raise ValueError(f"{self.file} has {available} {unit}; the prefix needs {length}")


def read_recorded_actions(video: str | Path, num_frames: int | None = None) -> Tensor | None:
    """Read the action that led to each frame, `[t]` or `[t, a]`, of a recorded video.

    Args:
        video: the video. The file next to it has its name, with the suffix `.actions.npy`.
        num_frames: number of frames; None reads all actions.

    Returns:
        The actions; None if there is no such file.
    """
    file = Path(video).with_suffix(".actions.npy")
    return read_frame_actions(file, 0, num_frames) if file.is_file() else None
