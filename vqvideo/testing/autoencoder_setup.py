"""The encoder or decoder that laws are checked on: in float64, with noise on all its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.grid import downsampling
from vqvideo.nets.blocks import Blockwise

STRIDES = {1: ((2,), (2,)), 2: ((2, 1), (2, 4)), 3: ((1, 2, 2), (2, 2, 2))}
GRID = {1: (13,), 2: (9, 3), 3: (5, 6, 3)}
Z_CHANNELS = 5


class Case(NamedTuple):
    """A network in float64, an input for it, steps of in- and output per code, the shape that its
    output must have, and what builds such a network.
    """

    net: Blockwise
    x: Tensor
    in_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    shape: tuple[int, ...]
    build: Callable[[], Blockwise]

    @classmethod
    def of_encoder(
        cls, build: Callable[[], Blockwise], strides: Sequence[Sequence[int]], channels: int
    ) -> Case:
        """One that takes data, whose strides say how many steps of it stand for a code."""
        down, grid, axes = _sizes(strides)
        x = drawn(2, channels, *axes)
        return cls(_noisy(build), x, down, (1,) * len(grid), (2, Z_CHANNELS, *grid), build)

    @classmethod
    def of_decoder(
        cls, build: Callable[[], Blockwise], strides: Sequence[Sequence[int]], channels: int
    ) -> Case:
        """One that takes z_q and gives data, or parameters."""
        down, grid, axes = _sizes(strides)
        x = drawn(2, Z_CHANNELS, *grid)
        return cls(_noisy(build), x, (1,) * len(grid), down, (2, channels, *axes), build)

    def in_float32(self) -> Case:
        """The same with narrow numbers, as in use; the network is changed in place."""
        return self._replace(net=self.net.float(), x=self.x.float())


def drawn(*shape: int) -> Tensor:
    """Numbers from N(0, 1), the same for every shape of so many axes."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).double()


@torch.no_grad()
def without_gradients(net: Blockwise, x: Tensor) -> Tensor:
    """The output of a network."""
    return net(x)  # type: ignore[no-any-return]


def _sizes(
    strides: Sequence[Sequence[int]],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Data steps per code, the code grid and the axes of its data."""
    down = downsampling(tuple(map(tuple, strides)))
    grid = GRID[len(down)]
    return down, grid, tuple(n * d for n, d in zip(grid, down, strict=True))


def _noisy(build: Callable[[], Blockwise]) -> Blockwise:
    torch.manual_seed(0)
    net = build()
    for parameter in net.parameters():  # a layer that starts at zero would make any law hold
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.double().eval()
