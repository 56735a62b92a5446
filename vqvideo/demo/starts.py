"""What a walk begins with: a picture, or the first frames of a video."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_actions
from vqvideo.generator import Generator

FRAMES = 8  # of a video, at most: about as far as a prior looks back
MOST_PIXELS = 40_000_000  # of a frame: a small file may unfold to gigabytes
MAY_MOVE = ("GIF", "PNG")  # formats that Pillow reads as a picture, and FFmpeg as a video


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
    `vqvideo record-maze` has its actions beside it, and they are read too. A GIF or PNG that
    moves is a video.

    Args:
        file: whatever `media.read_image` or `media.read_video` reads, of at most 40 million pixels.
        generator: whose size and temporal stride the frames get.
        name: what to call it; None is the name of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no picture and no video, or too short or too large a one, or what lies
            beside it are no actions.
    """
    path, name = Path(file), name or Path(file).name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # of Pillow's own limit
            if _is_picture(path):
                return Start(name, _picture(path, generator))
            frames = _video(path, generator, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name} has more than {MOST_PIXELS:,} pixels; make it smaller") from error
    except media.MediaError as error:
        raise ValueError(
            f"{name} cannot be read as a picture or a video; give a PNG, a JPEG or an MP4 file"
        ) from error
    beside, number = path.with_suffix(".actions.npy"), frames.shape[1]
    return Start(name, frames, read_actions(beside, 0, number) if beside.is_file() else None)


def _is_picture(path: Path) -> bool:
    """Whether Pillow knows it and it stands still; only its header is read."""
    try:
        with Image.open(path) as picture:
            _check_pixels(*picture.size)
            return not (picture.format in MAY_MOVE and getattr(picture, "is_animated", False))
    except (OSError, SyntaxError):
        return False


def _picture(path: Path, generator: Generator) -> Tensor:
    _, height, width = generator.sample_shape or ()
    picture = media.read_image(path, size=(height, width))
    return picture[:, None].repeat(1, generator.vqvae.downsampling[0], 1, 1)


def _video(path: Path, generator: Generator, name: str) -> Tensor:
    stride, (_, height, width) = generator.vqvae.downsampling[0], generator.sample_shape or ()
    found = media.probe(path)
    _check_pixels(found.width, found.height)
    number = min(found.num_frames, max(FRAMES, stride)) // stride * stride
    if number == 0:
        raise ValueError(f"{name} is too short: this model goes on from {stride} frames at least")
    return media.read_video(path, range(number), size=(height, width)).frames


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Image.DecompressionBombError
