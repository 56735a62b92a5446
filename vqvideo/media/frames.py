"""Convert decoded video frames to RGB tensors of one size.

Size, pixel aspect ratio, rotation and colours may change in mid-stream, so each frame is converted
by its own. Frames of very different shapes are cropped before they are scaled, see pixels.py.

Not here: decoding (video_decoder.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqvideo.media.files import wrap_ffmpeg_errors
from vqvideo.media.pixels import (
    Fit,
    ImageSize,
    compute_scaled_size,
    crop_or_pad,
    crop_then_scale,
    needs_crop_first,
)
from vqvideo.media.video_index import Orientation, VideoIndex, read_orientation

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter


def fit_frames(
    frames: Iterator[VideoFrame],
    frame_numbers: Sequence[int],
    index: VideoIndex,
    size: ImageSize,
    fit: Fit,
) -> Iterator[Tensor]:
    """Bring each decoded frame to `size` by its own displayed size: uint8 `[3, *size]`."""
    from av.video.reformatter import VideoReformatter

    reformatter, properties = VideoReformatter(), None
    with wrap_ffmpeg_errors(index.path):
        for number, frame in zip(frame_numbers, frames, strict=True):
            orientation = read_orientation(frame, index.path)
            displayed = compute_displayed_size(frame, index, orientation)
            scaled = compute_scaled_size(displayed, size, fit, f"frame {number} of {index.path}")
            is_whole = not needs_crop_first((frame.height, frame.width), scaled, size)
            stored = scaled if is_whole else (frame.height, frame.width)
            if is_whole and orientation.transpose:
                stored = stored[::-1]
            if properties != (properties := _get_properties(frame)):
                reformatter = VideoReformatter()  # the old one would keep the colour range
            rgb = _orient(_convert_to_rgb(reformatter, frame, stored), orientation)
            if is_whole:
                yield crop_or_pad(rgb[None], size)[0]
            else:
                yield crop_then_scale(rgb, displayed, size, fit)


def _get_properties(frame: VideoFrame) -> tuple[object, ...]:
    """Return what the conversion of a frame to RGB depends on."""
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range


def compute_displayed_size(
    frame: VideoFrame, index: VideoIndex, orientation: Orientation
) -> ImageSize:
    """Return the (height, width) of a frame with square pixels, as displayed."""
    # The decoder stores the aspect ratio that the stream has at this frame, or None if unknown.
    noted = frame.opaque if isinstance(frame.opaque, list) else []
    own_aspect = noted[0] if noted and not index.has_container_aspect else None
    aspect = float(own_aspect or index.pixel_aspect)
    height, width = frame.height, max(1, round(frame.width * aspect))
    return (width, height) if orientation.transpose else (height, width)


def _convert_to_rgb(reformatter: VideoReformatter, frame: VideoFrame, size: ImageSize) -> Tensor:
    """Convert a stored frame to RGB and scale it to `size` in the same step: uint8 `[3, *size]`."""
    from av.video.reformatter import Interpolation

    resampling = (  # bicubic with antialiasing, full chroma resolution
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
    )
    interpolation = Interpolation.BILINEAR if (frame.height, frame.width) == size else resampling
    height, width = size
    rgb = reformatter.reformat(
        frame, width, height, "rgb24", interpolation=interpolation, threads=1
    )
    return torch.from_numpy(rgb.to_ndarray().astype(np.uint8, copy=False)).permute(2, 0, 1)


def _orient(image: Tensor, orientation: Orientation) -> Tensor:
    """Transform a stored image `[3, h, w]` to the displayed one."""
    if orientation.transpose:
        image = image.transpose(1, 2)
    flip_dims = [1] * orientation.vflip + [2] * orientation.hflip
    return image.flip(flip_dims) if flip_dims else image
