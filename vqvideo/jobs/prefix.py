"""What is to be continued: the first frames of a video, or the beginning of a sound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_actions
from vqvideo.generator import Generator

FRAMES = 8  # of video that are kept where nobody says how many
SECONDS = 1.0  # of sound


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A real clip to continue: its first frames, brought to the size of the model; or a real sound.

    Attributes:
        file: a video, or a file with sound for a model of sound.
        num_frames: how many of its frames, or samples at the model's rate, to keep: a multiple of
            the model's temporal stride. None is 8 frames, or `seconds` of sound.
        seconds: of sound to keep, rounded down to whole codes.
        fit: "crop" cuts, "pad" adds borders, "refuse" raises when the sizes of pictures differ;
            None crops.
    """

    file: str
    num_frames: int | None = None
    seconds: float | None = None
    fit: Literal["crop", "pad", "refuse"] | None = None

    def length(self, generator: Generator) -> int:
        """Frames or samples that are kept for a model.

        Raises:
            ValueError: it is for images; both lengths are given, or seconds of a video, or none of
                a sound.
        """
        rank, stride = generator.vqvae.rank, generator.vqvae.downsampling[0]
        if rank == 2:
            raise ValueError("only a model of video or sound can continue a clip")
        if self.seconds is not None and (rank == 3 or self.num_frames is not None):
            raise ValueError("a prefix of video is counted in frames, seconds are for sound alone")
        if self.fit is not None and rank == 1:
            raise ValueError(f"fit={self.fit!r} is for pictures; sound has no size to be fitted")
        if self.num_frames is not None:
            if self.num_frames < 1:
                raise ValueError(f"a prefix must be at least 1 long, got {self.num_frames}")
            return self.num_frames
        if rank == 3:
            return FRAMES
        seconds = SECONDS if self.seconds is None else self.seconds
        is_length = math.isfinite(seconds) and seconds > 0
        codes = int(seconds * generator.config.rate) // stride if is_length else 0
        if codes < 1:
            raise ValueError(
                f"a prefix must hold at least one code, {stride / generator.config.rate:.4f} s; "
                f"got {seconds} s"
            )
        return codes * stride

    def actions(self) -> Tensor | None:
        """What led into each frame, as far as is known, `[t]` or `[t, a]`; None where no
        `.actions.npy` lies beside it, as `vqvideo record-maze` leaves one.
        """
        recorded = Path(self.file).with_suffix(".actions.npy")
        return read_actions(recorded, 0, None) if recorded.is_file() else None

    def checked_length(self, generator: Generator) -> int:
        """The same, once it is known that the model takes it and that a video has as many frames;
        raises as `read`.
        """
        kept, rest = self.length(generator), tuple(generator.sample_shape or ())[1:]
        generator.vqvae.grid_shape((kept, *rest))
        if generator.vqvae.rank == 3:
            self._check(media.probe(self.file).num_frames, kept, "frames")
        return kept

    def read(self, generator: Generator) -> tuple[Tensor, dict[str, Any]]:
        """What is kept `[c, n, ...]`, and all that is to be remembered of it.

        Raises:
            ValueError: the file is shorter, or the length is none that the model takes.
            media.MediaError: it cannot be read.
        """
        kept = self.checked_length(generator)
        if generator.vqvae.rank == 1:
            rate = int(generator.config.rate)
            samples = media.read_audio(self.file, sample_rate=rate).samples
            self._check(samples.shape[1], kept, f"samples at {rate} Hz")
            return samples[:, :kept], {"file": self.file, "num_frames": kept, "sample_rate": rate}
        info, (_, height, width) = media.probe(self.file), generator.sample_shape or ()
        fit = self.fit or "crop"
        video = media.read_video(self.file, range(kept), size=(height, width), fit=fit)
        size = [info.height, info.width]
        found = {"file": self.file, "num_frames": kept, "fit": fit, "size": size}
        return video.frames, {**found, "fps": video.fps}

    def _check(self, length: int, kept: int, unit: str) -> None:
        if length < kept:
            raise ValueError(
                f"{self.file} has {length} {unit}; {kept} were asked for as the prefix"
            )
