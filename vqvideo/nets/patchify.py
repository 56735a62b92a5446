"""The `patchify` encoder and decoder: patches, then (2+1)D blocks, causal in time.

They are faster than `conv` on long inputs: a level maps non-overlapping patches linearly, so no
position is computed twice, and its blocks convolve in space and in time separately. The codes of
the first frames of a clip do not depend on later frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import check_strides, compute_downsampling
from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder
from vqvideo.nets.conv import CONV, CONV_TRANSPOSE, build_pointwise_conv
from vqvideo.streaming import CausalModule, CausalSequential, StreamingState


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
            h = _apply_spatial_conv(self.space, F.relu(h))
        if self.has_time:
            h = _apply_temporal_conv(self.time, self.prepend_context(F.relu(h), 2, state))
        result: Tensor = x + h
        return result


@ENCODERS.register("patchify")
class PatchifyEncoder(Encoder):
    """Fast encoder: at each level a patch embedding, then causal (2+1)D blocks.

    Args:
        rank: number of axes of the data.
        channels: channels of the data.
        z_channels: channels of z_e.
        strides: patch sizes; one tuple per level, one stride per axis.
        widths: hidden channels of each level.
        num_blocks: blocks of each level.
        linear_init: initialize as a linear map of each patch: a codebook initialized by k-means
            then gives a good linear coder before any training (24.7 dB on maze episodes), and the
            blocks learn to improve on it. False puts a ReLU before each head, as is usual for
            such blocks, and learns much more slowly at first.

    >>> import torch
    >>> encoder = PatchifyEncoder(
    ...     rank=2, channels=3, z_channels=4, strides=((2, 2), (2, 1)), widths=(8, 8)
    ... )
    >>> encoder(torch.zeros(2, 3, 8, 6)).shape
    torch.Size([2, 4, 2, 3])
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        widths: Sequence[int] = (96, 192),
        num_blocks: Sequence[int] = (1, 3),
        linear_init: bool = True,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)
        _check_levels(levels, widths, num_blocks)
        self.rank, self.channels, self.downsampling = rank, channels, compute_downsampling(levels)
        layers: list[nn.Module] = []
        in_channels = channels
        for level, width, blocks in zip(levels, widths, num_blocks, strict=True):
            layers += [CONV[rank](in_channels, width, level, stride=level)]
            layers += [FactorizedBlock(rank, width) for _ in range(blocks)]
            in_channels = width
        layers += [] if linear_init else [nn.ReLU()]
        layers += [build_pointwise_conv(rank, in_channels, z_channels)]
        self.layers = CausalSequential(*layers)
        if linear_init:
            init_linear(self.layers)
        self.configure_chunks(self.layers, self.downsampling, causal=rank != 2)

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.layers(x, state)  # type: ignore[no-any-return]


@DECODERS.register("patchify")
class PatchifyDecoder(Decoder):
    """Decoder that mirrors `PatchifyEncoder`; it is causal in time as well.

    Args: the same as for `PatchifyEncoder`, in the encoder's order; levels are applied in reverse.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        widths: Sequence[int] = (96, 192),
        num_blocks: Sequence[int] = (1, 3),
        linear_init: bool = True,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)
        _check_levels(levels, widths, num_blocks)
        layers: list[nn.Module] = [build_pointwise_conv(rank, z_channels, widths[-1])]
        for index in reversed(range(len(levels))):
            layers += [FactorizedBlock(rank, widths[index]) for _ in range(num_blocks[index])]
            out_channels = widths[index - 1] if index else channels
            layers += [] if linear_init else [nn.ReLU()]
            patch = levels[index]
            layers += [CONV_TRANSPOSE[rank](widths[index], out_channels, patch, stride=patch)]
        self.layers = CausalSequential(*layers)
        if linear_init:
            init_linear(self.layers)
        self.configure_chunks(self.layers, compute_downsampling(levels), causal=rank != 2)

    def forward(self, z_q: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.layers(z_q, state)  # type: ignore[no-any-return]


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


def _check_levels(
    levels: Sequence[Sequence[int]], widths: Sequence[int], num_blocks: Sequence[int]
) -> None:
    if not len(levels) == len(widths) == len(num_blocks):
        raise ValueError(
            f"strides, widths and num_blocks must have one entry per level each, "
            f"got {len(levels)}, {len(widths)} and {len(num_blocks)}"
        )


# Convolutions with a kernel of one frame or of one pixel run as 2D convolutions: torch's 3D
# convolution is slow for a single short or small clip.


def _apply_spatial_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution with a kernel of one frame to `[b, c, t, h, w]` or `[b, c, h, w]`."""
    if x.ndim == 4:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d) and isinstance(conv.padding, tuple)
    frames = x.transpose(1, 2).flatten(0, 1)
    frames = F.conv2d(frames, conv.weight[:, :, 0], conv.bias, padding=conv.padding[1:])
    return frames.view(x.shape[0], -1, *frames.shape[1:]).transpose(1, 2)


def _apply_temporal_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution with a kernel of one pixel to `[b, c, t, h, w]` or `[b, c, t]`."""
    if x.ndim == 3:
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv, nn.Conv3d)
    pixels = F.conv2d(x.flatten(3), conv.weight.flatten(3), conv.bias)
    return pixels.view(*pixels.shape[:3], *x.shape[3:])
