"""Convolutions of any rank: 1 for audio, 2 for images, 3 for video.

Shapes are `[b, c, *axes]`. A strided convolution divides an axis exactly by its stride and a
transposed one multiplies it, so no other module has to track shapes.

Along the first axis a layer may be causal: its output depends on the current and earlier steps
only. Such a layer can process a long input chunk by chunk; its last inputs are kept in a
`StreamingState` outside the modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class StreamingState:
    """The last inputs of the causal layers of a network: its state between two chunks of an input.

    Pass a new state with the first chunk; the network updates it in place. The input before the
    first step is zero, as with zero padding.
    """

    def __init__(self) -> None:
        self._cache: dict[nn.Module, Tensor] = {}

    def prepend(self, x: Tensor, num_steps: int, layer: nn.Module) -> Tensor:
        """Prepend the last `num_steps` steps of the input of `layer` to `x` and update them."""
        context = self._cache.get(layer)
        if context is None:
            context = x.new_zeros(*x.shape[:2], num_steps, *x.shape[3:])
        padded = torch.cat([context, x], dim=2)
        # A copy, since a view would keep all of `padded` in memory.
        self._cache[layer] = padded[:, :, padded.shape[2] - num_steps :].clone()
        return padded


class CausalModule(nn.Module):
    """Base class of layers that are causal along the first axis.

    `forward` takes an optional `StreamingState`; without one, `x` is the whole input.
    """

    def prepend_context(self, x: Tensor, num_steps: int, state: StreamingState | None) -> Tensor:
        """Prepend the previous `num_steps` steps to `x` `[b, c, n, ...]`; zeros without a state."""
        if state is None:
            return F.pad(
                x, (0, 0) * (x.ndim - 3) + (num_steps, 0)
            )  # F.pad starts with the last axis
        return state.prepend(x, num_steps, self)


class CausalSequential(nn.Sequential):
    """`nn.Sequential` that passes the streaming state to its causal layers."""

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        for layer in self:
            x = layer(x, state) if isinstance(layer, CausalModule) else layer(x)
        return x


def build_downsample_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """Build a strided convolution as in the paper.

    The kernel is twice the stride (4 for stride 2), so that each output covers half of the input of
    each neighbour; it is 3 along an axis of stride 1. A causal convolution covers all input of the
    previous step and none of the next.
    """
    kernel, padding = _compute_kernel_and_padding(strides)
    if causal:
        return CausalConv(rank, in_channels, out_channels, kernel, strides, padding)
    return CONV[rank](in_channels, out_channels, kernel, stride=tuple(strides), padding=padding)


def build_upsample_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """Build the transposed counterpart of `build_downsample_conv`."""
    kernel, padding = _compute_kernel_and_padding(strides)
    if causal:
        return CausalUpConv(rank, in_channels, out_channels, strides)
    return CONV_TRANSPOSE[rank](
        in_channels,
        out_channels,
        kernel,
        stride=tuple(strides),
        padding=padding,
        output_padding=_compute_output_padding(kernel, padding, strides),
    )


class CausalConv(CausalModule):
    """Convolution with the given padding, but causal (left) padding along the first axis."""

    def __init__(
        self,
        rank: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        strides: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.left_context = kernel_size[0] - strides[0]
        self.conv = CONV[rank](
            in_channels, out_channels, tuple(kernel_size), tuple(strides), (0, *padding[1:])
        )

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.conv(self.prepend_context(x, self.left_context, state))  # type: ignore[no-any-return]


class CausalUpConv(CausalModule):
    """Transposed counterpart of a causal `build_downsample_conv`; uses two codes."""

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        kernel, padding = _compute_kernel_and_padding(strides)
        self.stride, self.left_context = strides[0], -(-kernel[0] // strides[0]) - 1
        self.conv = CONV_TRANSPOSE[rank](
            in_channels,
            out_channels,
            kernel,
            stride=tuple(strides),
            padding=(0, *padding[1:]),
            output_padding=(0, *_compute_output_padding(kernel, padding, strides)[1:]),
        )

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        out: Tensor = self.conv(self.prepend_context(x, self.left_context, state))
        return out.narrow(2, self.left_context * self.stride, x.shape[2] * self.stride)


def _compute_kernel_and_padding(strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = tuple(2 * s if s > 1 else 3 for s in strides)
    padding = tuple((s + 1) // 2 if s > 1 else 1 for s in strides)
    return kernel, padding


def _compute_output_padding(
    kernel: Sequence[int], padding: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Return the output padding: odd strides need one step, as their padding is rounded up."""
    return tuple(2 * p - k + s for p, k, s in zip(padding, kernel, strides, strict=True))


def build_patch_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
) -> nn.Module:
    """Build a patch embedding: a linear map of non-overlapping patches of stride size."""
    size = tuple(strides)
    return CONV[rank](in_channels, out_channels, size, stride=size)


def build_unpatch_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
) -> nn.Module:
    """Build the transposed counterpart of `build_patch_conv`."""
    size = tuple(strides)
    return CONV_TRANSPOSE[rank](in_channels, out_channels, size, stride=size)


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


class FactorizedBlock(CausalModule):
    """A (2+1)D residual block: a spatial convolution, then a causal temporal one.

    Rank 3 has both, rank 2 only the spatial one, rank 1 only the temporal one. The temporal
    convolution covers the current and the two previous positions, so the output at time t does
    not depend on later inputs.
    """

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.has_time, self.has_space = rank != 2, rank != 1
        if self.has_space:
            kernel = (1, 3, 3)[3 - rank :]
            self.space = CONV[rank](width, width, kernel, padding=tuple(k // 2 for k in kernel))
        if self.has_time:
            self.time = CONV[rank](width, width, (3, 1, 1)[:rank])

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        h = x
        if self.has_space:
            h = apply_spatial_conv(self.space, F.relu(h))
        if self.has_time:
            h = apply_temporal_conv(self.time, self.prepend_context(F.relu(h), 2, state))
        result: Tensor = x + h
        return result


def init_linear(layers: CausalSequential) -> None:
    """Initialize a sequence of convolutions and blocks as a linear map.

    Convolutions get orthogonal weights (Saxe et al. 2014); the residual branches of blocks start
    at zero.
    """
    for layer in layers:
        last = layer
        if isinstance(layer, FactorizedBlock):
            last = layer.time if layer.has_time else layer.space
            nn.init.zeros_(last.get_parameter("weight"))
        else:
            nn.init.orthogonal_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))


# Convolutions with a kernel of one frame or of one pixel run as 2D convolutions: torch's 3D
# convolution is slow for a single short or small clip.


def apply_spatial_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution with a kernel of one frame to `[b, c, t, h, w]` or `[b, c, h, w]`."""
    if x.ndim == 4:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d) and isinstance(conv.padding, tuple)
    frames = x.transpose(1, 2).flatten(0, 1)
    frames = F.conv2d(frames, conv.weight[:, :, 0], conv.bias, padding=conv.padding[1:])
    return frames.view(x.shape[0], -1, *frames.shape[1:]).transpose(1, 2)


def apply_temporal_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution with a kernel of one pixel to `[b, c, t, h, w]` or `[b, c, t]`."""
    if x.ndim == 3:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d)
    pixels = F.conv2d(x.flatten(3), conv.weight.flatten(3), conv.bias)
    return pixels.view(*pixels.shape[:3], *x.shape[3:])
