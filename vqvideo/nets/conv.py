"""Convolutions whose rank is a number: 1 for audio, 2 for images, 3 for video.

Shapes are `[b, c, *axes]`. A strided convolution divides an axis exactly by its stride and a
transposed one multiplies it, so shapes need no bookkeeping anywhere else.

Along the first axis a layer may be causal: it sees this step and earlier ones. Such a layer works
on a long input piece by piece; what it saw last stands in a `Past`, outside the modules.
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


def pointwise(rank: int, in_channels: int, out_channels: int, bias: bool = True) -> nn.Module:
    """A 1-wide convolution: the same linear map at every position."""
    return CONV[rank](in_channels, out_channels, 1, bias=bias)


class Past:
    """What the causal layers of a network saw last: its state between two pieces of an input.

    A new one stands before the first piece; a network that is given it writes into it. Layers see
    zeros before the first step, as convolutions see zeros around their input.
    """

    def __init__(self) -> None:
        self._seen: dict[nn.Module, Tensor] = {}

    def before(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        """`x` behind the last `steps` steps that `layer` saw; they are replaced by those of `x`."""
        seen = self._seen.get(layer)
        if seen is None:
            seen = x.new_zeros(*x.shape[:2], steps, *x.shape[3:])
        longer = torch.cat([seen, x], dim=2)
        self._seen[layer] = longer[:, :, longer.shape[2] - steps :].clone()  # a view keeps it all
        return longer


class Causal(nn.Module):
    """A layer that never looks ahead along the first axis; called with the past, if there is one.

    Without one, `x` is all there is.
    """

    def with_before(self, x: Tensor, steps: int, past: Past | None) -> Tensor:
        """`x` `[b, c, n, ...]` with the `steps` steps before it: `[b, c, steps + n, ...]`."""
        if past is None:
            return F.pad(x, (0, 0) * (x.ndim - 3) + (steps, 0))  # F.pad begins at the last axis
        return past.before(x, steps, self)


class Layers(nn.Sequential):
    """One layer after the other, the causal ones with what they saw last."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        for layer in self:
            x = layer(x, past) if isinstance(layer, Causal) else layer(x)
        return x


def down_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """The paper's strided convolution: kernel twice the stride (4-wide for stride 2), so that
    every output sees half of its neighbours' input; 3-wide along an axis of stride 1. A causal one
    sees all of the input of the step before and none of the step after.
    """
    kernel, padding = _overlapping(strides)
    if causal:
        return CausalConv(rank, in_channels, out_channels, kernel, strides, padding)
    return CONV[rank](in_channels, out_channels, kernel, stride=tuple(strides), padding=padding)


def up_conv(
    rank: int, in_channels: int, out_channels: int, strides: Sequence[int], causal: bool = False
) -> nn.Module:
    """The transposed counterpart of `down_conv`."""
    kernel, padding = _overlapping(strides)
    if causal:
        return CausalUpConv(rank, in_channels, out_channels, strides)
    return CONV_TRANSPOSE[rank](
        in_channels,
        out_channels,
        kernel,
        stride=tuple(strides),
        padding=padding,
        output_padding=_extra(kernel, padding, strides),
    )


class CausalConv(Causal):
    """A convolution padded as given, but along the first axis on the left alone."""

    def __init__(
        self,
        rank: int,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int],
        strides: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__()
        self.steps_before = kernel[0] - strides[0]
        self.conv = CONV[rank](
            in_channels, out_channels, tuple(kernel), tuple(strides), (0, *padding[1:])
        )

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return self.conv(self.with_before(x, self.steps_before, past))  # type: ignore[no-any-return]


class CausalUpConv(Causal):
    """The transposed counterpart of a causal `down_conv`: data of this code and the one before."""

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        kernel, padding = _overlapping(strides)
        self.stride, self.steps_before = strides[0], -(-kernel[0] // strides[0]) - 1
        self.conv = CONV_TRANSPOSE[rank](
            in_channels,
            out_channels,
            kernel,
            stride=tuple(strides),
            padding=(0, *padding[1:]),
            output_padding=(0, *_extra(kernel, padding, strides)[1:]),
        )

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        longer: Tensor = self.conv(self.with_before(x, self.steps_before, past))
        return longer.narrow(2, self.steps_before * self.stride, x.shape[2] * self.stride)


def _overlapping(strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = tuple(2 * s if s > 1 else 3 for s in strides)
    padding = tuple((s + 1) // 2 if s > 1 else 1 for s in strides)
    return kernel, padding


def _extra(
    kernel: Sequence[int], padding: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Odd strides pad one step more than they need on one side; a transposed one adds it again."""
    return tuple(2 * p - k + s for p, k, s in zip(padding, kernel, strides, strict=True))


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


class ResidualBlock(Causal):
    """The paper's residual block (section 4.1): ReLU, 3-wide conv, ReLU, 1-wide conv, sum."""

    def __init__(self, rank: int, width: int, causal: bool = False) -> None:
        super().__init__()
        self.steps_before = 2 if causal else 0
        padding = (0 if causal else 1,) + (1,) * (rank - 1)
        self.wide = CONV[rank](width, width, 3, padding=padding)
        self.narrow = pointwise(rank, width, width)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        h = F.relu(x)
        if self.steps_before:
            h = self.with_before(h, self.steps_before, past)
        update: Tensor = self.narrow(F.relu(self.wide(h)))
        return x + update


class FactorizedBlock(Causal):
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
            self.time = CONV[rank](width, width, (3, 1, 1)[:rank])

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        h = x
        if self.has_space:
            h = within_frames(self.space, F.relu(h))
        if self.has_time:
            h = back_in_time(self.time, self.with_before(F.relu(h), 2, past))
        result: Tensor = x + h
        return result


def begin_linear(layers: Layers) -> None:
    """Let convolutions and blocks, one after the other, begin as a linear map: convolutions keep
    lengths as far as their widths allow (Saxe et al. 2014), blocks add nothing yet.
    """
    for layer in layers:
        last = layer
        if isinstance(layer, FactorizedBlock):
            last = layer.time if layer.has_time else layer.space
            nn.init.zeros_(last.get_parameter("weight"))
        else:
            nn.init.orthogonal_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))


# Kernels of one frame, or of one pixel, are two-dimensional convolutions, and run as such: torch
# has no quick path for a three-dimensional one of a single clip that is short or small.


def within_frames(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution whose kernel spans one frame, of `[b, c, t, h, w]`; of `[b, c, h, w]` as is."""
    if x.ndim == 4:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d) and isinstance(conv.padding, tuple)
    frames = x.transpose(1, 2).flatten(0, 1)
    frames = F.conv2d(frames, conv.weight[:, :, 0], conv.bias, padding=conv.padding[1:])
    return frames.view(x.shape[0], -1, *frames.shape[1:]).transpose(1, 2)


def back_in_time(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution whose kernel spans one pixel, of `[b, c, t, h, w]`; of `[b, c, t]` as is."""
    if x.ndim == 3:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d)
    pixels = F.conv2d(x.flatten(3), conv.weight.flatten(3), conv.bias)
    return pixels.view(*pixels.shape[:3], *x.shape[3:])
