"""Convert pixels between uint8 and float, and resize images without distortion.

An image is cropped, padded or rejected, never stretched. Every reader calls `compute_scaled_size`,
then resizes, then calls `crop_or_pad`. Images are resized here. Video frames are resized in the
same step as their colour conversion (frames.py), which is faster. Both antialias when they
downscale.

A file of some hundred bytes may declare an image of any size. An image may therefore have at most
`MAX_PIXELS` pixels, and one that is much longer than it is wide is cropped before it is scaled:
scaled whole, 60,000x1 pixels would become 3,840,000x64 for a crop of 64x64.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.files import MAX_PIXELS, MediaError

Fit = Literal["crop", "pad", "refuse"]
ImageSize = tuple[int, int]


_MAX_ENLARGEMENT = 8  # pixels of the scaled image for each one of the result; 21:9 to 9:16 takes 4
_MAX_SIDE = 2**16  # pixels; the weights of a resampling take memory in proportion to it


def to_uint8(x: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to uint8 of the same shape; clamp values outside.

    NaN has no uint8 value: check for it first, as the writers do.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist()
    [0, 128, 255, 255]
    """
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """Convert uint8 to float32 in [-1, 1] of the same shape; `to_uint8` inverts it exactly.

    >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [-1.0, 1.0]
    """
    if x.dtype != torch.uint8:
        raise ValueError(f"from_uint8 takes uint8, got {x.dtype}; to convert floats, use to_uint8")
    return x.float() / 127.5 - 1


def check_size(size: ImageSize | None, fit: str) -> None:
    """Raise `ValueError` unless `size` is None or (height, width) and `fit` is a valid mode."""
    if fit not in ("crop", "pad", "refuse"):
        raise ValueError(f"fit must be 'crop', 'pad' or 'refuse', got {fit!r}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size must be (height, width) in pixels, both at least 1, got {size}")


def check_num_pixels(size: ImageSize, name: str) -> None:
    """Raise `MediaError` if an image of this (height, width) has more than `MAX_PIXELS` pixels.

    Readers call it with the size that a file declares, before they decode anything.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise MediaError(f"{name} has more than {MAX_PIXELS:,} pixels per frame; resize it")


def check_no_nan(x: Tensor, name: str, dim: int, offset: int = 0) -> None:
    """Raise `ValueError` if `x` has NaN; name the first such index along `dim`, plus `offset`."""
    bad = x.isnan().movedim(dim, 0).flatten(1).any(dim=1)
    if bad.any():
        index = offset + int(bad.int().argmax())
        raise ValueError(
            f"{name} {index} contains NaN ({int(bad.sum())} of {len(bad)} do), "
            "expected values in [-1, 1]"
        )


def resize(images: Tensor, size: ImageSize | None, fit: Fit = "crop", name: str = "") -> Tensor:
    """Resize images without distortion.

    Args:
        images: uint8 `[n, 3, h, w]`.
        size: target (height, width); None returns the images unchanged.
        fit: `"crop"`, `"pad"` or `"refuse"`, see `compute_scaled_size`.
        name: where the images come from, for the message.

    Returns:
        uint8 `[n, 3, *size]`.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.
    """
    check_size(size, fit)
    if size is None:
        return images
    source = (images.shape[-2], images.shape[-1])
    scaled = compute_scaled_size(source, size, fit, name)
    if needs_crop_first(source, scaled, size):
        return torch.stack([crop_then_scale(image, source, size, fit) for image in images])
    if scaled != source:
        images = images.contiguous(memory_format=torch.channels_last)  # much faster
        images = F.interpolate(images, size=scaled, mode="bicubic", antialias=True)
    return crop_or_pad(images, size)


def compute_scaled_size(
    source_size: ImageSize, size: ImageSize | None, fit: Fit, name: str = ""
) -> ImageSize:
    """Return the size to scale an image to before `crop_or_pad` brings it to `size`.

    Args:
        source_size: displayed (height, width) of the image.
        size: target (height, width); None keeps `source_size`.
        fit: `"crop"` scales the image to cover `size`, `"pad"` to fit inside it, `"refuse"`
            raises unless the image has this size already.
        name: where the image comes from, for the message.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.

    >>> compute_scaled_size((90, 160), (32, 32), "crop")
    (32, 57)
    >>> compute_scaled_size((90, 160), (32, 32), "pad")
    (18, 32)
    """
    if size is None or size == source_size:
        return source_size
    if fit == "refuse":
        prefix = f"{name}: " if name else ""
        raise ValueError(
            f"{prefix}image is {source_size[0]}x{source_size[1]} (height x width), expected "
            f"{size[0]}x{size[1]}; choose fit='crop' or fit='pad' to resize it"
        )
    scales = (size[0] / source_size[0], size[1] / source_size[1])
    scale = max(scales) if fit == "crop" else min(scales)
    height, width = (max(1, round(n * scale)) for n in source_size)
    return height, width


def crop_or_pad(images: Tensor, size: ImageSize) -> Tensor:
    """Center-crop images `[n, 3, h, w]` that are too large; pad those too small with black."""
    height, width = images.shape[-2:]
    top, left = int((size[0] - height) / 2), int((size[1] - width) / 2)  # towards zero
    borders = (left, size[1] - width - left, top, size[0] - height - top)
    return F.pad(images, borders)  # a negative border crops


def needs_crop_first(source_size: ImageSize, scaled_size: ImageSize, size: ImageSize) -> bool:
    """Return whether scaling an image as a whole would take much more memory than the result.

    Args:
        source_size: stored (height, width) of the image.
        scaled_size: its size when scaled as a whole, from `compute_scaled_size`.
        size: target (height, width).
    """
    enlargement = math.prod(scaled_size) / math.prod(size)
    return enlargement > _MAX_ENLARGEMENT or max(source_size) > _MAX_SIDE


def crop_then_scale(image: Tensor, displayed_size: ImageSize, size: ImageSize, fit: Fit) -> Tensor:
    """Resize an image without distortion and without scaling what is cropped.

    The values are near those of scaling first: bicubic with antialiasing too. With `"crop"`, the
    source region is exact to fractions of a pixel.

    Args:
        image: uint8 `[3, h, w]`, stored pixels, which need not be square.
        displayed_size: (height, width) with square pixels.
        size: target (height, width).
        fit: `"crop"` or `"pad"`, see `compute_scaled_size`.

    Returns:
        uint8 `[3, *size]`.
    """
    from PIL import Image

    scaled, visible = compute_scaled_size(displayed_size, size, fit), (1.0, 1.0)
    if fit == "crop":  # the fraction of each side that is visible in the result
        scale = max(size[0] / displayed_size[0], size[1] / displayed_size[1])
        visible = (size[0] / scale / displayed_size[0], size[1] / scale / displayed_size[1])
        scaled = size
    (top, bottom, rows), (left, right, columns) = (
        _find_span(image.shape[axis + 1], visible[axis], scaled[axis]) for axis in (0, 1)
    )
    part = image[:, rows, columns].permute(1, 2, 0).contiguous().numpy()
    resized = Image.fromarray(part).resize(
        scaled[::-1], Image.Resampling.BICUBIC, (left, top, right, bottom), reducing_gap=3
    )
    return crop_or_pad(torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None], size)[0]


def _find_span(length: int, visible: float, target: int) -> tuple[float, float, slice]:
    """Return start and stop of the central part of an axis, within a slice that the filter needs.

    Args:
        length: pixels along the axis.
        visible: fraction of it to keep.
        target: pixels that the part is scaled to.
    """
    extent = min(float(length), length * visible)
    start = (length - extent) / 2
    margin = 2 * max(1.0, extent / target)  # half the width of the bicubic filter
    first, last = max(0, math.floor(start - margin)), math.ceil(start + extent + margin)
    stop = min(start - first + extent, min(last, length) - first)
    return start - first, stop, slice(first, min(last, length))
