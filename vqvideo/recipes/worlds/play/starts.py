"""Frames that an interactive rollout starts from: an image, or the first frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image
from torch import Tensor

from vqvideo import media
from vqvideo.commands.prefix import read_recorded_actions

if TYPE_CHECKING:
    from vqvideo.generator import Generator

MAX_START_FRAMES = 8  # of a video: about the temporal context of a prior
MAX_PIXELS = 40_000_000  # per frame: fewer than media reads, since several visitors may upload
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
    _, height, width = generator.sample_shape or ()
    frames = read_start_frames(path, name, (height, width), generator.vqvae.downsampling[0])
    return Start(name, frames, read_recorded_actions(path, frames.shape[1]))


def read_start_frames(path: Path, name: str, size: tuple[int, int], stride: int) -> Tensor:
    """Read the frames of a start, without a model; see `read_start`.

    Args:
        path: an image or a video.
        name: name of the file in messages.
        size: height and width of the frames.
        stride: temporal stride of the model; the number of frames is a multiple of it.

    Returns:
        `[3, n, *size]` in [-1, 1].
    """
    try:
        if _is_image(path, name):
            return media.read_image(path, size=size)[:, None].repeat(1, stride, 1, 1)
        return _read_video(path, name, size, stride)
    except media.MediaError as error:
        raise ValueError(
            f"{name} cannot be read as an image or a video; give a PNG, JPEG or MP4 file"
        ) from error


def _is_image(path: Path, name: str) -> bool:
    """Return whether Pillow can read a file and it is not animated; only its header is read."""
    try:
        with Image.open(path) as image:
            _check_pixels(image.height, image.width, name)
            return not (image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _build_pixels_error(name) from error
    except (OSError, SyntaxError):
        return False


def _read_video(path: Path, name: str, size: tuple[int, int], stride: int) -> Tensor:
    info = media.probe(path)
    _check_pixels(info.height, info.width, name)
    num_frames = min(info.num_frames, max(MAX_START_FRAMES, stride)) // stride * stride
    if num_frames == 0:
        raise ValueError(f"{name} is too short: this model needs at least {stride} frames")
    return media.read_video(path, range(num_frames), size=size).frames


def _check_pixels(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise _build_pixels_error(name)


def _build_pixels_error(name: str) -> ValueError:
    return ValueError(f"{name} has more than {MAX_PIXELS:,} pixels per frame; resize it")
