"""Rank and stride arithmetic: the shape of the code grid for a shape of data.

`rank` is the number of axes of the grid: 1 for audio (t), 2 for images (h w), 3 for video (t h w).
`strides` holds one tuple per level of an encoder, one stride per axis; their product along an
axis is the downsampling. This module handles integers only, no tensors.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence

AXIS_NAMES: dict[int, tuple[str, ...]] = {
    1: ("length",),
    2: ("height", "width"),
    3: ("frames", "height", "width"),
}

MAX_DOWNSAMPLING = 1 << 31  # data steps per code along an axis
Strides = tuple[tuple[int, ...], ...]


def check_rank(rank: int) -> int:
    """Return `rank` if it is 1, 2 or 3, else raise `ValueError`."""
    if rank not in AXIS_NAMES:
        raise ValueError(f"rank must be 1 (audio), 2 (image) or 3 (video), got {rank!r}")
    return rank


def check_strides(rank: int, strides: Sequence[Sequence[int]]) -> Strides:
    """Return `strides` as tuples after checking that every level has one stride per axis."""
    check_rank(rank)
    levels = tuple(tuple(level) for level in strides)
    for level in levels:
        if len(level) != rank or any(not isinstance(s, int) or s < 1 for s in level):
            raise ValueError(
                f"each level of strides must hold {rank} integers >= 1 "
                f"(one per axis: {', '.join(AXIS_NAMES[rank])}), got {reprlib.repr(level)}"
            )
    for axis in zip(*levels, strict=True):
        downsampling = 1
        for stride in axis:
            downsampling *= stride
            if downsampling > MAX_DOWNSAMPLING:  # before the product takes long
                raise ValueError(
                    f"the strides along an axis multiply to more than {MAX_DOWNSAMPLING}"
                )
    return levels


def compute_downsampling(strides: Strides) -> tuple[int, ...]:
    """Return the number of data steps per code along each axis.

    >>> compute_downsampling(((2, 2, 2), (1, 2, 2)))
    (2, 4, 4)
    """
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


def compute_grid_shape(shape: Sequence[int], downsampling: Sequence[int]) -> tuple[int, ...]:
    """Return the code grid of data with these axes; every axis must be divisible.

    >>> compute_grid_shape((16, 64, 96), (4, 4, 4))
    (4, 16, 24)

    Raises:
        ValueError: the number of axes is wrong, or an axis is not divisible; the message says
            which sizes work.
    """
    if len(shape) != len(downsampling):
        raise ValueError(
            f"data must have {len(downsampling)} axes "
            f"({', '.join(AXIS_NAMES[len(downsampling)])}), got {tuple(shape)}"
        )
    for name, size, factor in zip(AXIS_NAMES[len(downsampling)], shape, downsampling, strict=True):
        if size < 1 or size % factor:
            valid = sorted({max(size // factor, 1) * factor, -(-max(size, 1) // factor) * factor})
            raise ValueError(
                f"{name} {size} is not divisible by the downsampling {factor}; "
                f"crop or pad it to {' or '.join(map(str, valid))}"
            )
    return tuple(size // factor for size, factor in zip(shape, downsampling, strict=True))


def ceil_div(size: int, factor: int) -> int:
    """Return the number of codes that cover `size` data steps; the last may be partly used.

    >>> ceil_div(17, 4)
    5
    """
    return -(-size // factor)
