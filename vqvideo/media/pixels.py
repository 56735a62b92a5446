"""Convert pixels between uint8 and float, and resize images without distortion.

An image is cropped, padded or rejected, never stretched. Every reader calls `compute_scaled_size`,
then resizes, then calls `crop_or_pad`. Images are resized here. Video frames are resized in the
same step as their colour conversion (video.py), which is faster. Both antialias when they
downscale.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Fit = Literal["crop", "pad", "refuse"]
ImageSize = tuple[int, int]


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


def check_no_nan(x: Tensor, name: str, dim: int, offset: int = 0) -> None:
    """Raise `ValueError` if `x` has NaN; name the first such index along `dim`, plus `offset`."""
    bad = x.isnan().movedim(dim, 0).flatten(1).any(dim=1)
    if bad.any():
        index = offset + int(bad.int().argmax())
        raise ValueError(
            f"{name} {index} contains NaN ({int(bad.sum())} of {len(bad)} do), "
            "expected values in [-1, 1]"
        )


def resize(images: Tensor, size: ImageSize | None, fit: Fit = "crop") -> Tensor:
    """Resize images without distortion.

    Args:
        images: uint8 `[n, 3, h, w]`.
        size: target (height, width); None returns the images unchanged.
        fit: `"crop"`, `"pad"` or `"refuse"`, see `compute_scaled_size`.

    Returns:
        uint8 `[n, 3, *size]`.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.
    """
    check_size(size, fit)
    if size is None:
        return images
    scaled = compute_scaled_size((images.shape[-2], images.shape[-1]), size, fit)
    if scaled != tuple(images.shape[-2:]):
        images = images.contiguous(memory_format=torch.channels_last)  # much faster
        images = F.interpolate(images, size=scaled, mode="bicubic", antialias=True)
    return crop_or_pad(images, size)


def compute_scaled_size(source_size: ImageSize, size: ImageSize | None, fit: Fit) -> ImageSize:
    """Return the size to scale an image to before `crop_or_pad` brings it to `size`.

    Args:
        source_size: displayed (height, width) of the image.
        size: target (height, width); None keeps `source_size`.
        fit: `"crop"` scales the image to cover `size`, `"pad"` to fit inside it, `"refuse"`
            raises unless the image has this size already.

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
        raise ValueError(
            f"image is {source_size[0]}x{source_size[1]} (height x width), expected "
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
