"""Convolutions whose rank is a number: 1 for audio, 2 for images, 3 for video.

Shapes are `[b, c, *axes]`. A strided convolution divides an axis exactly by its stride and a
transposed one multiplies it, so shapes need no bookkeeping anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def pointwise(rank: int, in_channels: int, out_channels: int, bias: bool = True) -> nn.Module:
    """A 1-wide convolution: the same linear map at every position."""
    return CONV[rank](in_channels, out_channels, 1, bias=bias)


def down_conv(rank: int, in_channels: int, out_channels: int, strides: Sequence[int]) -> nn.Module:
    """The paper's strided convolution: kernel twice the stride (4-wide for stride 2), so that
    every output sees half of its neighbours' input; 3-wide along an axis of stride 1.
    """
    kernel, padding = _overlapping(strides)
    return CONV[rank](in_channels, out_channels, kernel, stride=tuple(strides), padding=padding)


def up_conv(rank: int, in_channels: int, out_channels: int, strides: Sequence[int]) -> nn.Module:
    """The transposed counterpart of `down_conv`."""
    kernel, padding = _overlapping(strides)
    extra = tuple(
        2 * p - k + s for p, k, s in zip(padding, kernel, strides, strict=True)
    )  # odd strides pad one step more than they need on one side
    return CONV_TRANSPOSE[rank](
        in_channels,
        out_channels,
        kernel,
        stride=tuple(strides),
        padding=padding,
        output_padding=extra,
    )


def _overlapping(strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = tuple(2 * s if s > 1 else 3 for s in strides)
    padding = tuple((s + 1) // 2 if s > 1 else 1 for s in strides)
    return kernel, padding


def patch_conv(rank: int, in_channels: int, out_channels: int, strides: Sequence[int]) -> nn.Module:
    """Cut the data into patches of the size of the stride and map each linearly."""
    size = tuple(strides)
    return CONV[rank](in_channels, out_channels, size, stride=size)


def unpatch_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
) -> nn.Module:
    """The transposed counterpart of `patch_conv`."""
    size = tuple(strides)
    return CONV_TRANSPOSE[rank](in_channels, out_channels, size, stride=size)


class ResidualBlock(nn.Module):
    """The paper's residual block (section 4.1): ReLU, 3-wide conv, ReLU, 1-wide conv, sum."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.wide = CONV[rank](width, width, 3, padding=1)
        self.narrow = pointwise(rank, width, width)

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.narrow(F.relu(self.wide(F.relu(x))))
        return x + update


class FactorizedBlock(nn.Module):
    """A residual block in two steps, first within a frame, then back in time: (2+1)D.

    Rank 3 has both steps, rank 2 only the one within a frame, rank 1 only the one in time. The
    step in time looks at this and the two earlier positions, never ahead, so what comes out at
    time t depends on nothing later than t.
    """

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.has_time, self.has_space = rank != 2, rank != 1
        if self.has_space:
            kernel = (1, 3, 3)[3 - rank :]
            self.space = CONV[rank](width, width, kernel, padding=tuple(k // 2 for k in kernel))
        if self.has_time:
            self.past_only = (0, 0) * (rank - 1) + (2, 0)  # F.pad counts from the last axis
            self.time = CONV[rank](width, width, (3, 1, 1)[:rank])

    def forward(self, x: Tensor) -> Tensor:
        h = x
        if self.has_space:
            h = self.space(F.relu(h))
        if self.has_time:
            h = self.time(F.pad(F.relu(h), self.past_only))
        result: Tensor = x + h
        return result
