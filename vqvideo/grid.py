"""Rank and stride arithmetic: which grid of codes belongs to which shape of data.

`rank` counts the axes of the grid: 1 for audio (t), 2 for images (h w), 3 for video (t h w).
`strides` holds one tuple per level of an encoder, one stride per axis; their product along an
axis is the `downsampling`. No tensors here, only integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

AXES: dict[int, tuple[str, ...]] = {
    1: ("length",),
    2: ("height", "width"),
    3: ("frames", "height", "width"),
}

Strides = tuple[tuple[int, ...], ...]


def check_rank(rank: int) -> int:
    """Return `rank` if it is 1, 2 or 3, else raise `ValueError`."""
    if rank not in AXES:
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
                f"(one per axis: {', '.join(AXES[rank])}), got {level}"
            )
    return levels


def downsampling(strides: Strides) -> tuple[int, ...]:
    """Data steps per code along each axis.

    >>> downsampling(((2, 2, 2), (1, 2, 2)))
    (2, 4, 4)
    """
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


def grid_shape(axes: Sequence[int], down: Sequence[int]) -> tuple[int, ...]:
    """The code grid of data with these axes; every axis must divide.

    >>> grid_shape((16, 64, 96), (4, 4, 4))
    (4, 16, 24)

    Raises:
        ValueError: the number of axes is wrong, or an axis does not divide; the message says
            which sizes work.
    """
    if len(axes) != len(down):
        raise ValueError(
            f"data must have {len(down)} axes ({', '.join(AXES[len(down)])}), got {tuple(axes)}"
        )
    for name, size, factor in zip(AXES[len(down)], axes, down, strict=True):
        if size < 1 or size % factor:
            works = sorted({max(size // factor, 1) * factor, -(-max(size, 1) // factor) * factor})
            raise ValueError(
                f"{name} {size} is not divisible by the downsampling {factor}; "
                f"crop or pad it to {' or '.join(map(str, works))}"
            )
    return tuple(size // factor for size, factor in zip(axes, down, strict=True))


def codes_needed(size: int, factor: int) -> int:
    """Codes that cover `size` data steps when the last one may be partly used.

    >>> codes_needed(17, 4)
    5
    """
    return -(-size // factor)
