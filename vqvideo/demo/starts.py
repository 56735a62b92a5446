"""What a walk begins with: a picture, or the first frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL.Image import DecompressionBombError
from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_actions
from vqvideo.generator import Generator

FRAMES = 8  # of a video, at most: about as far as a prior looks back


class Start(NamedTuple):
    """Real frames that a walk goes on from.

    Attributes:
        name: shown beneath its picture.
        frames: `[3, n, h, w]` in [-1, 1], of the model's size, n a multiple of its temporal stride.
        actions: int64 `[n]`, what led into each of them; None where nobody knows.
    """

    name: str
    frames: Tensor
    actions: Tensor | None = None


def read_start(file: str | Path, generator: Generator, name: str | None = None) -> Start:
    """A picture or a video, cropped to the size of a model.

    A picture stands still for one code frame. A video gives its first 8 frames; a recording of
    `vqvideo record-maze` has its actions beside it, and they are read too.

    Args:
        file: whatever `media.read_image` or `media.read_video` reads.
        generator: whose size and temporal stride the frames get.
        name: what to call it; None is the name of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no picture and no video, or too short a one.
    """
    path, name = Path(file), name or Path(file).name
    stride = generator.vqvae.downsampling[0]
    _, height, width = generator.sample_shape or ()
    try:
        picture = media.read_image(path, size=(height, width))
        return Start(name, picture[:, None].repeat(1, stride, 1, 1))
    except DecompressionBombError as error:
        raise ValueError(f"{name} has too many pixels; make it smaller") from error
    except media.MediaError:
        pass  # not a picture: a video, then
    try:
        number = min(media.probe(path).num_frames, max(FRAMES, stride)) // stride * stride
        frames = media.read_video(path, range(number), size=(height, width)).frames if number else 0
    except media.MediaError as error:
        raise ValueError(
            f"{name} cannot be read as a picture or a video; give a PNG, a JPEG or an MP4 file"
        ) from error
    if isinstance(frames, int):
        raise ValueError(f"{name} is too short: this model goes on from {stride} frames at least")
    recorded = path.with_suffix(".actions.npy")
    return Start(name, frames, read_actions(recorded, 0, number) if recorded.is_file() else None)
