"""The laws of encoders and decoders: shapes, and that blocks are the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from vqvideo.grid import downsampling
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.nets.blocks import Blocks, Blockwise

STRIDES = {1: ((2,), (2,)), 2: ((2, 1), (2, 4)), 3: ((1, 2, 2), (2, 2, 2))}
GRID = {1: (13,), 2: (9, 3), 3: (5, 6, 3)}
Z_CHANNELS = 5
Part = TypeVar("Part", bound=Blockwise)


def check_encoder(
    build: Callable[..., Encoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """All laws of an encoder of one rank.

    Args:
        build: called as `build(rank=..., channels=..., z_channels=..., strides=...)`. Make it
            small.
        rank: a rank that it supports.
        strides: that it supports; None takes two levels whose strides differ from axis to axis.
        channels: that it supports, of the data or of the likelihood's parameters.
    """
    strides = STRIDES[rank] if strides is None else strides
    encoder = _built(build, rank, strides, channels)
    down, grid = downsampling(tuple(map(tuple, strides))), GRID[rank]
    x = _draw(2, channels, *(n * d for n, d in zip(grid, down, strict=True)))
    _check_shape("z_e", encoder, x, (2, Z_CHANNELS, *grid))
    said = (encoder.rank, encoder.channels, tuple(encoder.downsampling))
    assert said == (rank, channels, down), (
        f"the encoder says rank, channels and downsampling are {said}, not {(rank, channels, down)}"
    )
    _check_blocks(encoder, x, down, (1,) * rank)


def check_decoder(
    build: Callable[..., Decoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """All laws of a decoder of one rank; the arguments are those of `check_encoder`."""
    strides = STRIDES[rank] if strides is None else strides
    decoder = _built(build, rank, strides, channels)
    down, grid = downsampling(tuple(map(tuple, strides))), GRID[rank]
    z_q = _draw(2, Z_CHANNELS, *grid)
    axes = tuple(n * d for n, d in zip(grid, down, strict=True))
    _check_shape("the parameters", decoder, z_q, (2, channels, *axes))
    _check_blocks(decoder, z_q, (1,) * rank, down)


def _check_blocks(
    net: Blockwise, x: Tensor, in_steps: tuple[int, ...], out_steps: tuple[int, ...]
) -> None:
    """Blocks and tiles of every length give the whole; the pieces an input comes in change no bit;
    a causal network sees nothing later. Nothing to check where a network says no reach.
    """
    reach = net.reach or [None] * len(in_steps)
    if not (net.causal or reach[0]):
        return
    whole, own = _without_gradients(net, x), net.block
    tiles: list[Sequence[int] | None] = [None]
    tiles += [] if None in reach[1:] or len(reach) == 1 else [(2, 1)[: len(reach) - 1]]
    for block, tile in itertools.product((1, 2, own), tiles):
        net.block = block
        found = _in_pieces(Blocks(net, in_steps, out_steps, tile), [x])
        error = (found - whole).abs().max().item() if found.shape == whole.shape else float("inf")
        assert error < 1e-9 * (1 + whole.abs().max().item()), (
            f"blocks of {block} codes in tiles of {tile or 'all'} differ by {error:.1e} from the "
            f"whole, {list(found.shape)} from {list(whole.shape)}: the reach {reach} is too "
            f"small, or the past is not all that the network saw"
        )
    net.block = own
    single = net.float()
    narrow = x.float()
    together = _in_pieces(Blocks(single, in_steps, out_steps), [narrow])
    for lengths in ((1,), (3, 1, 5), (0, 7)):
        apart = _in_pieces(Blocks(single, in_steps, out_steps), _cut(narrow, lengths))
        assert torch.equal(apart, together), (
            f"pieces of {lengths} steps give other numbers than the input as one piece: the "
            f"network keeps something between two calls besides the past it is given"
        )
    if net.causal:
        _check_causal(single, narrow, in_steps, out_steps, together)
    net.double()


def _check_causal(
    net: Blockwise,
    x: Tensor,
    in_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    together: Tensor,
) -> None:
    """Other steps at the end leave what is before as it is, bit for bit."""
    codes = x.shape[2] // in_steps[0]
    for kept in (1, codes - 1):
        other = torch.cat([x[:, :, : kept * in_steps[0]], _draw(*x.shape).float()], dim=2)
        found = _in_pieces(Blocks(net, in_steps, out_steps), [other])[:, :, : kept * out_steps[0]]
        assert torch.equal(found, together[:, :, : kept * out_steps[0]]), (
            f"what comes after the first {kept} codes changes what they stand for, in a network "
            f"that says it is causal"
        )


def _built(
    build: Callable[..., Part], rank: int, strides: Sequence[Sequence[int]], channels: int
) -> Part:
    torch.manual_seed(0)
    net = build(rank=rank, channels=channels, z_channels=Z_CHANNELS, strides=strides)
    for parameter in net.parameters():  # a layer that starts at zero would make any law hold
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.double().eval()


def _check_shape(what: str, net: Blockwise, x: Tensor, expected: tuple[int, ...]) -> None:
    found = tuple(_without_gradients(net, x).shape)
    assert found == expected, f"{what} of {list(x.shape)} must be {list(expected)}, got {found}"


def _in_pieces(blocks: Blocks, pieces: Iterable[Tensor]) -> Tensor:
    found = []
    with torch.no_grad():
        for piece in pieces:
            blocks.push(piece)
            found += list(iter(blocks.ready, None))
        found += list(iter(lambda: blocks.ready(last=True), None))
    return torch.cat(found, dim=2)


def _cut(x: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
    """Pieces of these lengths again and again, until the end."""
    start = 0
    for length in itertools.cycle(lengths):
        yield x[:, :, start : start + length]
        start += length
        if start >= x.shape[2]:
            return


@torch.no_grad()
def _without_gradients(net: Blockwise, x: Tensor) -> Tensor:
    return net(x)  # type: ignore[no-any-return]


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).double()
