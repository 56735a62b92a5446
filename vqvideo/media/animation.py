"""Animations: GIF and WebP, for pages and chats that show no video.

Frames are timed in hundredths (GIF) or thousandths (WebP) of a second, rounded so that the
whole lasts as it should. Pillow holds all frames of an animation in memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from vqvideo.media.files import PathLike, output_file
from vqvideo.media.pixels import to_uint8
from vqvideo.media.write import OTHER_WRITERS, Frames, checked_pictures

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


def write_gif(path: PathLike, frames: Frames, fps: float, *, overwrite: bool = False) -> None:
    """Write frames as a GIF that repeats for ever.

    Equal frames in a row become one that lasts longer, and each frame has 256 colours.

    Args:
        path: must end in .gif.
        frames: `[3, t, h, w]` in [-1, 1], or pieces of it; values outside are clamped.
        fps: frames per second, at most 100. Many viewers slow down above 50.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another ending or shape, no frames, NaN, or a rate out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    images = _images(frames, fps)
    if fps > 100:
        raise ValueError(f"a GIF shows at most 100 frames per second, got {fps}")
    durations = [10 * hundredths for hundredths in _durations(len(images), fps, 100)]
    with output_file(
        path, suffixes=(".gif",), overwrite=overwrite, hint=OTHER_WRITERS
    ) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
        )


def write_webp(
    path: PathLike,
    frames: Frames,
    fps: float,
    *,
    quality: int | None = 80,
    overwrite: bool = False,
) -> None:
    """Write frames as a WebP animation that repeats for ever; browsers show it, in all colours.

    FFmpeg decodes no animated WebP, so `read_video` refuses it: to read an animation again,
    write it with `write_lossless` as .apng.

    Args:
        path: must end in .webp.
        frames: `[3, t, h, w]` in [-1, 1], or pieces of it; values outside are clamped.
        fps: frames per second, at most 1000.
        quality: from 0 to 100; None keeps every byte.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another ending or shape, no frames, NaN, a rate or quality out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    images = _images(frames, fps)
    if fps > 1000:
        raise ValueError(f"a WebP shows at most 1000 frames per second, got {fps}")
    if quality is not None and not 0 <= quality <= 100:
        raise ValueError(f"quality must lie in 0..100, or be None for lossless, got {quality}")
    with output_file(
        path, suffixes=(".webp",), overwrite=overwrite, hint=OTHER_WRITERS
    ) as temporary:
        images[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=_durations(len(images), fps, 1000),
            loop=0,
            lossless=quality is None,
            quality=80 if quality is None else quality,
        )


def _images(frames: Frames, fps: float) -> list[PILImage]:
    from PIL import Image

    _, pictures = checked_pictures(frames, fps)
    return [Image.fromarray(to_uint8(p).permute(1, 2, 0).contiguous().numpy()) for p in pictures]


def _durations(num_frames: int, fps: float, ticks_per_second: int) -> list[int]:
    """How many ticks each frame lasts."""
    ends = [round(ticks_per_second * number / fps) for number in range(num_frames + 1)]
    return [end - start for start, end in pairwise(ends)]
