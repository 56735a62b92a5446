"""Frames that an interactive rollout starts from: an image, or the first frames of a video."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_frame_actions
from vqvideo.generator import Generator

MAX_START_FRAMES = 8  # of a video: about the temporal context of a prior
MAX_PIXELS = 40_000_000  # per frame, against decompression bombs
ANIMATED_FORMATS = ("GIF", "PNG")  # formats that Pillow reads as images, and FFmpeg as videos


class Start(NamedTuple):
    """Real frames that a rollout continues.

    Attributes:
        name: name on the page.
        frames: `[3, n, h, w]` in [-1, 1], of the model's size, n a multiple of its temporal stride.
        actions: int64 `[n]`, the action that led to each frame; None if unknown.
    """

    name: str
    frames: Tensor
    actions: Tensor | None = None


def read_start(file: str | Path, generator: Generator, name: str | None = None) -> Start:
    """Read a start from an image or a video, cropped to the frame size of a model.

    An image is repeated for one code frame. Of a video the first 8 frames are read, and its actions
    if there is an `.actions.npy` file, as `vqvideo record-maze` writes it. An animated GIF or PNG
    is a video.

    Args:
        file: a file that `media.read_image` or `media.read_video` reads, of at most 40 million
            pixels per frame.
        generator: the model, which determines frame size and temporal stride.
        name: name of the start; None for the name of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an image or a video, or is too short or too large; or its
            actions are invalid.
    """
    path, name = Path(file), name or Path(file).name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", Image.DecompressionBombWarning
            )  # beyond the limit of Pillow
            if _is_image(path):
                return Start(name, _read_image(path, generator))
            frames = _read_video(path, generator, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} has more than {MAX_PIXELS:,} pixels per frame; resize it"
        ) from error
    except media.MediaError as error:
        raise ValueError(
            f"{name} cannot be read as an image or a video; give a PNG, JPEG or MP4 file"
        ) from error
    actions_file, num_frames = path.with_suffix(".actions.npy"), frames.shape[1]
    has_actions = actions_file.is_file()
    return Start(
        name, frames, read_frame_actions(actions_file, 0, num_frames) if has_actions else None
    )


def _is_image(path: Path) -> bool:
    """Return whether Pillow can read a file and it is not animated; only its header is read."""
    try:
        with Image.open(path) as image:
            _check_pixels(*image.size)
            return not (image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False))
    except (OSError, SyntaxError):
        return False


def _read_image(path: Path, generator: Generator) -> Tensor:
    _, height, width = generator.sample_shape or ()
    image = media.read_image(path, size=(height, width))
    return image[:, None].repeat(1, generator.vqvae.downsampling[0], 1, 1)


def _read_video(path: Path, generator: Generator, name: str) -> Tensor:
    stride, (_, height, width) = generator.vqvae.downsampling[0], generator.sample_shape or ()
    info = media.probe(path)
    _check_pixels(info.width, info.height)
    num_frames = min(info.num_frames, max(MAX_START_FRAMES, stride)) // stride * stride
    if num_frames == 0:
        raise ValueError(f"{name} is too short: this model needs at least {stride} frames")
    return media.read_video(path, range(num_frames), size=(height, width)).frames


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError
