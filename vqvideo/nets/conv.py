"""Convolutions of any rank: 1 for audio, 2 for images, 3 for video.

Shapes are `[b, c, *axes]`. A strided convolution divides an axis exactly by its stride and a
transposed one multiplies it, so no other module has to track shapes.

Along the first axis a layer may be causal: its output depends on the current and earlier steps
only. Such a layer can process a long input chunk by chunk; its last inputs are kept in a
`StreamingState` outside the modules (streaming/).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.streaming import CausalModule, StreamingState

CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def build_pointwise_conv(
    rank: int, in_channels: int, out_channels: int, bias: bool = True
) -> nn.Module:
    """Build a convolution with kernel size 1: the same linear map at every position."""
    return CONV[rank](in_channels, out_channels, 1, bias=bias)


def build_downsample_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """Build a strided convolution as in the paper.

    The kernel is twice the stride (4 for stride 2), so that each output covers half of the input of
    each neighbour; it is 3 along an axis of stride 1. A causal convolution covers all input of the
    previous step and none of the next.
    """
    if causal:
        return CausalConv(rank, in_channels, out_channels, strides)
    kernel, padding, _ = _compute_kernel_and_padding(strides)
    return CONV[rank](in_channels, out_channels, kernel, stride=tuple(strides), padding=padding)


def build_upsample_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """Build the transposed counterpart of `build_downsample_conv`."""
    if causal:
        return CausalUpConv(rank, in_channels, out_channels, strides)
    kernel, padding, output_padding = _compute_kernel_and_padding(strides)
    return CONV_TRANSPOSE[rank](
        in_channels, out_channels, kernel, tuple(strides), padding, output_padding
    )


class CausalConv(CausalModule):
    """Causal `build_downsample_conv`: along the first axis all padding is on the left."""

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        kernel, padding, _ = _compute_kernel_and_padding(strides)
        self.left_context = kernel[0] - strides[0]
        self.conv = CONV[rank](in_channels, out_channels, kernel, tuple(strides), (0, *padding[1:]))

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.conv(self.prepend_context(x, self.left_context, state))  # type: ignore[no-any-return]


class CausalUpConv(CausalModule):
    """Transposed counterpart of a causal `build_downsample_conv`; uses two codes."""

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        kernel, padding, output_padding = _compute_kernel_and_padding(strides)
        self.stride, self.left_context = strides[0], -(-kernel[0] // strides[0]) - 1
        self.conv = CONV_TRANSPOSE[rank](
            in_channels,
            out_channels,
            kernel,
            tuple(strides),
            (0, *padding[1:]),
            (0, *output_padding[1:]),
        )

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        out: Tensor = self.conv(self.prepend_context(x, self.left_context, state))
        return out.narrow(2, self.left_context * self.stride, x.shape[2] * self.stride)


def _compute_kernel_and_padding(strides: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the kernel size, the padding, and the output padding of the transposed counterpart:
    odd strides need one step, as their padding is rounded up.
    """
    kernel = tuple(2 * s if s > 1 else 3 for s in strides)
    padding = tuple((s + 1) // 2 if s > 1 else 1 for s in strides)
    output_padding = (2 * p - k + s for p, k, s in zip(padding, kernel, strides, strict=True))
    return kernel, padding, tuple(output_padding)


class ResidualBlock(CausalModule):
    """Residual block of the paper (section 4.1): ReLU, conv 3, ReLU, conv 1, sum."""

    def __init__(self, rank: int, width: int, causal: bool = False) -> None:
        super().__init__()
        self.left_context = 2 if causal else 0
        padding = (0 if causal else 1,) + (1,) * (rank - 1)
        self.conv1 = CONV[rank](width, width, 3, padding=padding)
        self.conv2 = build_pointwise_conv(rank, width, width)

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        h = F.relu(x)
        if self.left_context:
            h = self.prepend_context(h, self.left_context, state)
        update: Tensor = self.conv2(F.relu(self.conv1(h)))
        return x + update
