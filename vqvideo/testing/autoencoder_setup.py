"""The encoder or decoder that laws are checked on: in float64, with noise added to all weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.grid import compute_downsampling
from vqvideo.streaming import StreamingModule

STRIDES = {1: ((2,), (2,)), 2: ((2, 1), (2, 4)), 3: ((1, 2, 2), (2, 2, 2))}
CODE_GRIDS = {1: (13,), 2: (9, 3), 3: (5, 6, 3)}
Z_CHANNELS = 5


class AutoencoderCase(NamedTuple):
    """A network in float64 and its test input.

    Attributes:
        net: the network.
        x: an input `[b, c, *axes]`.
        in_steps: input steps per code, for each axis.
        out_steps: output steps per code, for each axis.
        shape: the expected shape of the output.
        build: a function that builds such a network.
    """

    net: StreamingModule
    x: Tensor
    in_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    shape: tuple[int, ...]
    build: Callable[[], StreamingModule]

    @classmethod
    def from_encoder(
        cls, build: Callable[[], StreamingModule], strides: Sequence[Sequence[int]], channels: int
    ) -> AutoencoderCase:
        """Return a case for an encoder, which maps data to z_e with the given strides."""
        down, grid, axes = _get_sizes(strides)
        x = sample_normal(2, channels, *axes)
        return cls(_build_noisy(build), x, down, (1,) * len(grid), (2, Z_CHANNELS, *grid), build)

    @classmethod
    def from_decoder(
        cls, build: Callable[[], StreamingModule], strides: Sequence[Sequence[int]], channels: int
    ) -> AutoencoderCase:
        """Return a case for a decoder, which maps z_q to data or likelihood parameters."""
        down, grid, axes = _get_sizes(strides)
        x = sample_normal(2, Z_CHANNELS, *grid)
        return cls(_build_noisy(build), x, (1,) * len(grid), down, (2, channels, *axes), build)

    def to_float32(self) -> AutoencoderCase:
        """Return the case in float32, as used in practice; the network is converted in place."""
        return self._replace(net=self.net.float(), x=self.x.float())


def sample_normal(*shape: int) -> Tensor:
    """Return samples from N(0, 1) in float64, seeded by the number of axes."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).double()


@torch.no_grad()
def forward_no_grad(net: StreamingModule, x: Tensor) -> Tensor:
    """Run a network without gradients."""
    return net(x)  # type: ignore[no-any-return]


def _get_sizes(
    strides: Sequence[Sequence[int]],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the data steps per code, the code grid, and the axes of the data."""
    down = compute_downsampling(tuple(map(tuple, strides)))
    grid = CODE_GRIDS[len(down)]
    return down, grid, tuple(n * d for n, d in zip(grid, down, strict=True))


def _build_noisy(build: Callable[[], StreamingModule]) -> StreamingModule:
    torch.manual_seed(0)
    net = build()
    for parameter in net.parameters():  # a layer initialized to zero would satisfy any law
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.double().eval()
