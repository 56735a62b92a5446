"""Pixels: bytes to floats and back, and how a picture is brought to a size.

Resizing is antialiased, works on bytes, and never changes the proportions of what is
seen: a picture is cropped, padded or refused, never stretched. Every reader uses this
one path, so the decoder that delivered the bytes makes no difference.
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


def check_values(x: Tensor, what: str, axis: int) -> None:
    """Raise `ValueError` naming the first entry along `axis` that holds NaN."""
    bad = x.isnan().movedim(axis, 0).flatten(1).any(dim=1)
    if bad.any():
        raise ValueError(
            f"{what} {int(bad.int().argmax())} holds NaN ({int(bad.sum())} of {len(bad)} do); "
            "a file can only hold values in [-1, 1]"
        )


def fit_to(
    images: Tensor, size: Size | None, fit: Fit = "crop", seen: Size | None = None
) -> Tensor:
    """Bring pictures to a size without distortion.

    Args:
        images: uint8 `[n, 3, h, w]`.
        size: (height, width) wanted; None keeps what is seen.
        fit: `"crop"` scales until the size is covered and cuts the centre out, `"pad"`
            scales until the picture fits inside and adds black around it, `"refuse"`
            raises unless the picture has this size already.
        seen: (height, width) at which the picture is shown, where that differs from its
            number of pixels (pixels that are not square).

    Returns:
        uint8 `[n, 3, *size]`.

    Raises:
        ValueError: `fit="refuse"` and the sizes differ.
    """
    check_size(size, fit)
    seen = seen or (images.shape[-2], images.shape[-1])
    if size is None or size == seen:
        return _resize(images, seen)
    if fit == "refuse":
        raise ValueError(
            f"picture is {seen[0]}x{seen[1]} (height x width), expected {size[0]}x{size[1]}; "
            "choose fit='crop' or fit='pad' to change it"
        )
    scales = (size[0] / seen[0], size[1] / seen[1])
    if fit == "crop":
        height, width = (max(s, round(n * max(scales))) for s, n in zip(size, seen, strict=True))
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        resized = _resize(images, (height, width))
        return resized[..., top : top + size[0], left : left + size[1]]
    height, width = (
        min(s, max(1, round(n * min(scales)))) for s, n in zip(size, seen, strict=True)
    )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    borders = (left, size[1] - width - left, top, size[0] - height - top)
    return F.pad(_resize(images, (height, width)), borders)


def _resize(images: Tensor, size: Size) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    channels_last = images.contiguous(memory_format=torch.channels_last)  # much the faster
    return F.interpolate(channels_last, size=size, mode="bicubic", antialias=True)
