"""Encoders `[b, channels, *axes] -> z_e [b, z_channels, *grid]` and decoders back, any rank.

There are two families. `conv` is the architecture of the paper: overlapping strided convolutions,
then residual blocks. `patchify` is a faster architecture for long inputs: non-overlapping patches
and (2+1)D blocks at each level. It is causal in time, so the codes of the first frames of a clip
do not depend on later frames. `conv` is causal with `causal=True`.

Not here: the meaning of a decoder's output (likelihoods), long inputs (streaming.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vqvideo.grid import check_strides, compute_downsampling
from vqvideo.nets.conv import (
    CausalSequential,
    FactorizedBlock,
    ResidualBlock,
    StreamingState,
    build_downsample_conv,
    build_patch_conv,
    build_pointwise_conv,
    build_unpatch_conv,
    build_upsample_conv,
    init_linear,
)
from vqvideo.nets.streaming import StreamingModule
from vqvideo.registry import Registry


class Encoder(StreamingModule):
    """Base class of encoders.

    A registered builder takes `rank`, `channels` (of the data), `z_channels` and `strides` in
    addition to its own options. If it has a parameter `sample_rate`, it gets that of the audio,
    in Hz.

    Attributes:
        rank: number of axes.
        channels: channels of the data.
        downsampling: data steps per code, one per axis.
    """

    rank: int
    channels: int
    downsampling: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return z_e `[b, z_channels, *grid]` of data `[b, channels, *axes]`."""


class Decoder(StreamingModule):
    """Base class of decoders.

    A registered builder takes `rank`, `channels` (of the likelihood's parameters), `z_channels`
    and `strides` in addition to its own options.
    """

    causal_chunk_size = 1  # frames are returned as soon as their code is available

    @abstractmethod
    def forward(self, z_q: Tensor) -> Tensor:
        """Return likelihood parameters `[b, channels, *axes]` of z_q `[b, z_channels, *grid]`."""


SHARED_OPTIONS = ("rank", "channels", "z_channels", "strides")  # parameters of every builder
ENCODERS: Registry[Encoder] = Registry("encoder", Encoder, SHARED_OPTIONS)
DECODERS: Registry[Decoder] = Registry("decoder", Decoder, SHARED_OPTIONS)


@ENCODERS.register("conv")
class ConvEncoder(Encoder):
    """Encoder of the paper (section 4.1): strided convolutions, two residual blocks, 1x1.

    Args:
        rank: number of axes of the data.
        channels: channels of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis.
        width: hidden channels; 256 in the paper.
        num_blocks: residual blocks after the last level.
        causal: use causal convolutions along the first axis.

    >>> import torch
    >>> encoder = ConvEncoder(rank=1, channels=1, z_channels=4, strides=((2,), (2,)), width=8)
    >>> encoder(torch.zeros(2, 1, 12)).shape
    torch.Size([2, 4, 3])
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        width: int = 128,
        num_blocks: int = 2,
        causal: bool = False,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)
        self.rank, self.channels, self.downsampling = rank, channels, compute_downsampling(levels)
        layers: list[nn.Module] = []
        for index, level in enumerate(levels):
            layers += [nn.ReLU()] if index else []
            layers += [
                build_downsample_conv(rank, width if index else channels, width, level, causal)
            ]
        layers += [ResidualBlock(rank, width, causal) for _ in range(num_blocks)]
        layers += [nn.ReLU(), build_pointwise_conv(rank, width, z_channels)]
        self.layers = CausalSequential(*layers)
        self.configure_chunks(self.layers, self.downsampling, causal=causal)

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.layers(x, state)  # type: ignore[no-any-return]


@DECODERS.register("conv")
class ConvDecoder(Decoder):
    """Decoder of the paper (section 4.1): 1x1, residual blocks, transposed convolutions.

    Args: the same as for `ConvEncoder`; the encoder's `strides` are applied in reverse order.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        width: int = 128,
        num_blocks: int = 2,
        causal: bool = False,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)[::-1]
        layers: list[nn.Module] = [build_pointwise_conv(rank, z_channels, width)]
        layers += [ResidualBlock(rank, width, causal) for _ in range(num_blocks)]
        for index, level in enumerate(levels):
            is_last = index == len(levels) - 1
            out_channels = channels if is_last else width
            layers += [nn.ReLU(), build_upsample_conv(rank, width, out_channels, level, causal)]
        self.layers = CausalSequential(*layers)
        self.configure_chunks(self.layers, compute_downsampling(levels), causal=causal)

    def forward(self, z_q: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.layers(z_q, state)  # type: ignore[no-any-return]


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
            then gives a good linear coder before any training (24.7 dB on game videos), and the
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
            layers += [build_patch_conv(rank, in_channels, width, level)]
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
            layers += [build_unpatch_conv(rank, widths[index], out_channels, levels[index])]
        self.layers = CausalSequential(*layers)
        if linear_init:
            init_linear(self.layers)
        self.configure_chunks(self.layers, compute_downsampling(levels), causal=rank != 2)

    def forward(self, z_q: Tensor, state: StreamingState | None = None) -> Tensor:
        return self.layers(z_q, state)  # type: ignore[no-any-return]


def _check_levels(
    levels: Sequence[Sequence[int]], widths: Sequence[int], num_blocks: Sequence[int]
) -> None:
    if not len(levels) == len(widths) == len(num_blocks):
        raise ValueError(
            f"strides, widths and num_blocks must have one entry per level each, "
            f"got {len(levels)}, {len(widths)} and {len(num_blocks)}"
        )
