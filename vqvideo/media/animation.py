"""Write animations: GIF and WebP, for web pages and chats that do not play video.

Frame durations are whole hundredths (GIF) or thousandths (WebP) of a second, rounded so that
the total duration is right. Pillow holds all frames of an animation in memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from vqvideo.media.files import PathLike, output_file
from vqvideo.media.pixels import to_uint8
from vqvideo.media.write import WRITERS_HINT, Frames, validate_frames

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


def write_gif(path: PathLike, frames: Frames, fps: float, *, overwrite: bool = False) -> None:
    """Write frames as a GIF that loops forever.

    Consecutive equal frames are merged into one longer frame. Each frame has 256 colours.

    Args:
        path: must end in .gif.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of chunks of it; values outside are
            clamped.
        fps: frames per second, at most 100. Many viewers play rates above 50 too slowly.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong suffix or shape, no frames, NaN, or a rate out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    images = _to_pil_images(frames, fps)
    if fps > 100:
        raise ValueError(f"a GIF can have at most 100 frames per second, got {fps}")
    durations = [10 * hundredths for hundredths in _compute_durations(len(images), fps, 100)]
    with output_file(path, suffixes=(".gif",), overwrite=overwrite, hint=WRITERS_HINT) as temporary:
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
    """Write frames as a WebP animation that loops forever, in full colour, for browsers.

    FFmpeg does not decode animated WebP, so `read_video` rejects it. To read an animation
    back, write it with `write_lossless` as .apng.

    Args:
        path: must end in .webp.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of chunks of it; values outside are
            clamped.
        fps: frames per second, at most 1000.
        quality: from 0 to 100; None is lossless.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong suffix or shape, no frames, NaN, or a rate or quality out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    images = _to_pil_images(frames, fps)
    if fps > 1000:
        raise ValueError(f"a WebP can have at most 1000 frames per second, got {fps}")
    if quality is not None and not 0 <= quality <= 100:
        raise ValueError(f"quality must lie in 0..100, or be None for lossless, got {quality}")
    with output_file(
        path, suffixes=(".webp",), overwrite=overwrite, hint=WRITERS_HINT
    ) as temporary:
        images[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=_compute_durations(len(images), fps, 1000),
            loop=0,
            lossless=quality is None,
            quality=80 if quality is None else quality,
        )


def _to_pil_images(frames: Frames, fps: float) -> list[PILImage]:
    from PIL import Image

    _, images = validate_frames(frames, fps)
    return [Image.fromarray(to_uint8(x).permute(1, 2, 0).contiguous().numpy()) for x in images]


def _compute_durations(num_frames: int, fps: float, ticks_per_second: int) -> list[int]:
    """Return the duration of each frame in ticks."""
    times = [round(ticks_per_second * i / fps) for i in range(num_frames + 1)]
    return [end - start for start, end in pairwise(times)]
