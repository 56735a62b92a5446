"""Writing video: MP4 that plays in a browser, and GIF.

MP4 is H.264 with 4:2:0 colours and its index at the front, a key frame every 16 frames so
that reading from the middle is quick, and the same bytes for the same input. Colours are
BT.601 and say so, so that every player shows the same. A file appears under its name only
when it is complete.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.files import PathLike, output_file
from vqvideo.media.pixels import check_values, to_uint8

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# The number of threads changes the bytes; so does x264's macroblock tree, whose vector code
# reads memory it never wrote (seen with B-frames at small sizes; gone with asm=0 as well).
_REPEATABLE = {"threads": "1", "x264-params": "mbtree=0"}
_FINEST_RATE = 100_000  # largest denominator of a frame rate; 1001 is the largest in use


def write_video(
    path: PathLike,
    frames: Tensor,
    fps: float,
    *,
    overwrite: bool = False,
    crf: int = 16,
    keyframe_interval: int = 16,
) -> None:
    """Write frames as an H.264 MP4 file.

    H.264 in these colours has even sizes only: an odd height or width gains one pixel, a
    copy of the last row or column.

    Args:
        path: must end in .mp4.
        frames: `[3, t, h, w]` in [-1, 1]; values outside are clamped.
        fps: frames per second.
        overwrite: replace a file that exists.
        crf: quality from 0 (best) to 51; 16 is hard to tell from the original.
        keyframe_interval: at most so many frames from one key frame to the next.

    Raises:
        ValueError: another shape, no frames, NaN, a rate or quality out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    pictures = _checked(frames, fps)
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must lie in 0..51, got {crf}")
    if keyframe_interval < 1:
        raise ValueError(f"keyframe_interval must be at least 1, got {keyframe_interval}")
    height, width = pictures.shape[-2:]
    with (
        output_file(path, suffixes=(".mp4",), overwrite=overwrite) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        rate = Fraction(fps).limit_denominator(_FINEST_RATE)
        stream = container.add_stream("libx264", rate=rate)
        stream.options = {"crf": str(crf), **_REPEATABLE}
        stream.gop_size = keyframe_interval
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        for picture in pictures.unbind(1):
            container.mux(stream.encode(_video_frame(picture)))
        container.mux(stream.encode(None))


def write_gif(path: PathLike, frames: Tensor, fps: float, *, overwrite: bool = False) -> None:
    """Write frames as a GIF that repeats for ever.

    GIF counts time in hundredths of a second: frames last a little longer or shorter than
    1 / fps, so that the whole lasts as it should. Equal frames in a row become one that
    lasts longer, and each frame has 256 colours.

    Args:
        path: must end in .gif.
        frames: `[3, t, h, w]` in [-1, 1]; values outside are clamped.
        fps: frames per second, at most 100. Many viewers slow down above 50.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another shape, no frames, NaN, or a rate out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    from PIL import Image

    pictures = to_uint8(_checked(frames, fps))
    if fps > 100:
        raise ValueError(f"a GIF shows at most 100 frames per second, got {fps}")
    ends = [round(100 * number / fps) for number in range(pictures.shape[1] + 1)]
    durations = [10 * (end - start) for start, end in pairwise(ends)]
    images = [Image.fromarray(p.permute(1, 2, 0).contiguous().numpy()) for p in pictures.unbind(1)]
    with output_file(path, suffixes=(".gif",), overwrite=overwrite) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
        )


def _video_frame(picture: Tensor) -> VideoFrame:
    """Float `[3, h, w]` to a YUV frame of even size."""
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    height, width = picture.shape[1:]
    even = F.pad(picture, (0, width % 2, 0, height % 2), mode="replicate")
    pixels = to_uint8(even).permute(1, 2, 0).contiguous().numpy()
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )


def _checked(frames: Tensor, fps: float) -> Tensor:
    """Frames on the CPU as float32, after their shape, their values and the rate are checked."""
    if frames.ndim != 4 or frames.shape[0] != 3:
        raise ValueError(f"frames must be [3, t, h, w], got {list(frames.shape)}")
    if frames.numel() == 0:
        raise ValueError(f"there is nothing to write: frames are {list(frames.shape)}")
    if not frames.is_floating_point():
        raise ValueError(f"frames must be floats in [-1, 1], got {frames.dtype}; use from_uint8")
    if not (math.isfinite(fps) and fps >= 1 / _FINEST_RATE):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    check_values(frames, "frame", axis=1)
    return frames.detach().float().cpu()
