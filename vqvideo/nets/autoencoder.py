"""Encoders `[b, channels, *axes] -> z_e [b, z_channels, *grid]` and decoders back, any rank.

Two families. `conv` is the paper's: overlapping strided convolutions, then residual blocks.
`patchify` is the fast one for long inputs: non-overlapping patches and (2+1)D blocks at each
level, and it never looks ahead in time, so the codes of the first frames of a clip are the codes
of those frames alone. `conv` does so too with `causal=True`.

Not here: what a decoder's output means (likelihoods), long inputs (blocks.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vqvideo.grid import check_strides, downsampling
from vqvideo.nets.blocks import Blockwise
from vqvideo.nets.conv import (
    FactorizedBlock,
    Layers,
    Past,
    ResidualBlock,
    begin_linear,
    down_conv,
    patch_conv,
    pointwise,
    unpatch_conv,
    up_conv,
)
from vqvideo.registry import Registry


class Encoder(Blockwise):
    """Interface of encoders.

    A registered builder takes `rank`, `channels` (of the data), `z_channels` and `strides`
    besides its own options, and is given the `sample_rate` (in Hz) of sound if it takes that.

    Attributes:
        rank: number of axes.
        channels: of the data.
        downsampling: data steps per code, one per axis.
    """

    rank: int
    channels: int
    downsampling: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """z_e `[b, z_channels, *grid]` of data `[b, channels, *axes]`."""


class Decoder(Blockwise):
    """Interface of decoders.

    A registered builder takes `rank`, `channels` (of the likelihood's parameters), `z_channels`
    and `strides` besides its own options.
    """

    causal_block = 1  # frames are there as soon as their code is

    @abstractmethod
    def forward(self, z_q: Tensor) -> Tensor:
        """The likelihood's parameters `[b, channels, *axes]` of z_q `[b, z_channels, *grid]`."""


SIZES = ("rank", "channels", "z_channels", "strides")  # that every builder takes
ENCODERS: Registry[Encoder] = Registry("encoder", Encoder, SIZES)
DECODERS: Registry[Decoder] = Registry("decoder", Decoder, SIZES)


@ENCODERS.register("conv")
class ConvEncoder(Encoder):
    """The paper's encoder (section 4.1): strided convolutions, two residual blocks, 1x1.

    Args:
        rank: number of axes of the data.
        channels: of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis.
        width: hidden channels; 256 in the paper.
        num_blocks: residual blocks after the last level.
        causal: never look ahead along the first axis.

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
        self.rank, self.channels, self.downsampling = rank, channels, downsampling(levels)
        layers: list[nn.Module] = []
        for index, level in enumerate(levels):
            layers += [nn.ReLU()] if index else []
            layers += [down_conv(rank, width if index else channels, width, level, causal)]
        layers += [ResidualBlock(rank, width, causal) for _ in range(num_blocks)]
        layers += [nn.ReLU(), pointwise(rank, width, z_channels)]
        self.layers = Layers(*layers)
        self.cut_as(self.layers, self.downsampling, causal=causal)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(x, past)  # type: ignore[no-any-return]


@DECODERS.register("conv")
class ConvDecoder(Decoder):
    """The paper's decoder (section 4.1): 1x1, residual blocks, transposed convolutions.

    Args: as `ConvEncoder`; `strides` are those of the encoder, walked backwards.
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
        layers: list[nn.Module] = [pointwise(rank, z_channels, width)]
        layers += [ResidualBlock(rank, width, causal) for _ in range(num_blocks)]
        for index, level in enumerate(levels):
            last = index == len(levels) - 1
            after = channels if last else width
            layers += [nn.ReLU(), up_conv(rank, width, after, level, causal)]
        self.layers = Layers(*layers)
        self.cut_as(self.layers, downsampling(levels), causal=causal)

    def forward(self, z_q: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(z_q, past)  # type: ignore[no-any-return]


@ENCODERS.register("patchify")
class PatchifyEncoder(Encoder):
    """A fast encoder: at each level patches, then (2+1)D blocks that never look ahead in time.

    Args:
        rank: number of axes of the data.
        channels: of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis: the sizes of the patches.
        widths: hidden channels of each level.
        num_blocks: blocks of each level.
        linear: begin as a linear map, of all the data in a patch: then a codebook started from
            k-means is that of a good linear coder (24.7 dB on walks through a maze, before any
            training), and the blocks learn what it lacks. False puts a ReLU before each head, as
            is usual for blocks of this kind, and learns much more slowly at first.

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
        linear: bool = True,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)
        _check_levels(levels, widths, num_blocks)
        self.rank, self.channels, self.downsampling = rank, channels, downsampling(levels)
        layers: list[nn.Module] = []
        before = channels
        for level, width, blocks in zip(levels, widths, num_blocks, strict=True):
            layers += [patch_conv(rank, before, width, level)]
            layers += [FactorizedBlock(rank, width) for _ in range(blocks)]
            before = width
        layers += [] if linear else [nn.ReLU()]
        layers += [pointwise(rank, before, z_channels)]
        self.layers = Layers(*layers)
        if linear:
            begin_linear(self.layers)
        self.cut_as(self.layers, self.downsampling, causal=rank != 2)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(x, past)  # type: ignore[no-any-return]


@DECODERS.register("patchify")
class PatchifyDecoder(Decoder):
    """The mirror image of `PatchifyEncoder`; it too never looks ahead in time.

    Args: as `PatchifyEncoder`, in the encoder's order; they are walked backwards.
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
        linear: bool = True,
    ) -> None:
        super().__init__()
        levels = check_strides(rank, strides)
        _check_levels(levels, widths, num_blocks)
        layers: list[nn.Module] = [pointwise(rank, z_channels, widths[-1])]
        for index in reversed(range(len(levels))):
            layers += [FactorizedBlock(rank, widths[index]) for _ in range(num_blocks[index])]
            after = widths[index - 1] if index else channels
            layers += [] if linear else [nn.ReLU()]
            layers += [unpatch_conv(rank, widths[index], after, levels[index])]
        self.layers = Layers(*layers)
        if linear:
            begin_linear(self.layers)
        self.cut_as(self.layers, downsampling(levels), causal=rank != 2)

    def forward(self, z_q: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(z_q, past)  # type: ignore[no-any-return]


def _check_levels(
    levels: Sequence[Sequence[int]], widths: Sequence[int], num_blocks: Sequence[int]
) -> None:
    if not len(levels) == len(widths) == len(num_blocks):
        raise ValueError(
            f"strides, widths and num_blocks need one entry per level each, "
            f"got {len(levels)}, {len(widths)} and {len(num_blocks)}"
        )
