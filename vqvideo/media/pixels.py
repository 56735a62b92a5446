"""Pixels: bytes to floats and back, and how a picture is brought to a size.

A picture is cropped, padded or refused, never stretched. `scaled_size` and `crop_or_pad` say
so for every reader; between the two, images are resized here, and frames of video while
their colours are converted (video.py), which is quicker. Both average what becomes smaller.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Fit = Literal["crop", "pad", "refuse"]
Size = tuple[int, int]


def to_uint8(x: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes in 0..255, any shape; values outside are clamped.

    NaN has no byte: check before (the writers do).

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist()
    [0, 128, 255, 255]
    """
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """Bytes in 0..255 to float32 in [-1, 1], any shape; `to_uint8` gives every byte back.

    >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [-1.0, 1.0]
    """
    if x.dtype != torch.uint8:
        raise ValueError(f"from_uint8 takes uint8, got {x.dtype}; use to_uint8 for the way back")
    return x.float() / 127.5 - 1


def check_size(size: Size | None, fit: str) -> None:
    """Raise `ValueError` unless `size` is None or (height, width) and `fit` is a known word."""
    if fit not in ("crop", "pad", "refuse"):
        raise ValueError(f"fit must be 'crop', 'pad' or 'refuse', got {fit!r}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size must be (height, width) in pixels, both at least 1, got {size}")


def check_values(x: Tensor, what: str, axis: int, first: int = 0) -> None:
    """Raise `ValueError` naming an entry along `axis` that holds NaN, counted from `first`."""
    bad = x.isnan().movedim(axis, 0).flatten(1).any(dim=1)
    if bad.any():
        number = first + int(bad.int().argmax())
        raise ValueError(
            f"{what} {number} holds NaN ({int(bad.sum())} of {len(bad)} do); "
            "a file can only hold values in [-1, 1]"
        )


def fit_to(images: Tensor, size: Size | None, fit: Fit = "crop") -> Tensor:
    """Bring pictures to a size without distortion.

    Args:
        images: uint8 `[n, 3, h, w]`.
        size: (height, width) wanted; None changes nothing.
        fit: `"crop"`, `"pad"` or `"refuse"`, see `scaled_size`.

    Returns:
        uint8 `[n, 3, *size]`.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.
    """
    check_size(size, fit)
    if size is None:
        return images
    scaled = scaled_size((images.shape[-2], images.shape[-1]), size, fit)
    if scaled != tuple(images.shape[-2:]):
        images = images.contiguous(memory_format=torch.channels_last)  # much the faster
        images = F.interpolate(images, size=scaled, mode="bicubic", antialias=True)
    return crop_or_pad(images, size)


def scaled_size(seen: Size, size: Size | None, fit: Fit) -> Size:
    """The size a whole picture is scaled to before `crop_or_pad` makes it `size`.

    Args:
        seen: (height, width) at which the picture is shown.
        size: (height, width) wanted; None keeps what is seen.
        fit: `"crop"` scales until `size` is covered, `"pad"` until the picture fits
            inside, `"refuse"` raises unless the picture has this size already.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.

    >>> scaled_size((90, 160), (32, 32), "crop"), scaled_size((90, 160), (32, 32), "pad")
    ((32, 57), (18, 32))
    """
    if size is None or size == seen:
        return seen
    if fit == "refuse":
        raise ValueError(
            f"picture is {seen[0]}x{seen[1]} (height x width), expected {size[0]}x{size[1]}; "
            "choose fit='crop' or fit='pad' to change it"
        )
    scales = (size[0] / seen[0], size[1] / seen[1])
    scale = max(scales) if fit == "crop" else min(scales)
    height, width = (max(1, round(n * scale)) for n in seen)
    return height, width


def crop_or_pad(images: Tensor, size: Size) -> Tensor:
    """The middle of pictures `[n, 3, h, w]` that are too large, black around those too small."""
    height, width = images.shape[-2:]
    top, left = int((size[0] - height) / 2), int((size[1] - width) / 2)  # towards zero
    borders = (left, size[1] - width - left, top, size[0] - height - top)
    return F.pad(images, borders)  # a border below zero is cut off
