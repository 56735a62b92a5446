"""The laws of encoders and decoders: shapes, and that blocks and pieces are the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vqvideo.grid import downsampling
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.nets.blocks import Blocks, Blockwise
from vqvideo.testing.laws import hold, name_of

STRIDES = {1: ((2,), (2,)), 2: ((2, 1), (2, 4)), 3: ((1, 2, 2), (2, 2, 2))}
GRID = {1: (13,), 2: (9, 3), 3: (5, 6, 3)}
Z_CHANNELS = 5
Part = TypeVar("Part", bound=Blockwise)

READ = '"Streams" in docs/architecture.md'


class Case(NamedTuple):
    """A network in float64, an input for it, steps of in- and output per code, and the shape that
    its output must have.
    """

    net: Blockwise
    x: Tensor
    in_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    shape: tuple[int, ...]

    def in_float32(self) -> Case:
        """The same with narrow numbers, as in use; the network is changed in place."""
        return self._replace(net=self.net.float(), x=self.x.float())


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
    net = _built(build, rank, strides, channels)
    name = name_of(net, Encoder)
    down, grid = downsampling(tuple(map(tuple, strides))), GRID[rank]
    x = _draw(2, channels, *(n * d for n, d in zip(grid, down, strict=True)))
    hold([an_encoder_says_what_it_is], name, net, rank, channels, down)
    hold(LAWS, name, Case(net, x, down, (1,) * rank, (2, Z_CHANNELS, *grid)))


def check_decoder(
    build: Callable[..., Decoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """All laws of a decoder of one rank; the arguments are those of `check_encoder`."""
    strides = STRIDES[rank] if strides is None else strides
    net = _built(build, rank, strides, channels)
    down, grid = downsampling(tuple(map(tuple, strides))), GRID[rank]
    axes = tuple(n * d for n, d in zip(grid, down, strict=True))
    case = Case(net, _draw(2, Z_CHANNELS, *grid), (1,) * rank, down, (2, channels, *axes))
    hold(LAWS, name_of(net, Decoder), case)


def an_encoder_says_what_it_is(
    net: Encoder, rank: int, channels: int, down: tuple[int, ...]
) -> None:
    """Its `rank`, `channels` and `downsampling` are those that it was built for."""
    said = (net.rank, net.channels, tuple(net.downsampling))
    assert said == (rank, channels, down), (
        f"the encoder says rank, channels and downsampling are {said}, not {(rank, channels, down)}"
    )


def the_output_fits_the_grid(case: Case) -> None:
    """An encoder gives z_e `[b, z_channels, *grid]`, a decoder `[b, channels, *axes]`."""
    found = tuple(_without_gradients(case.net, case.x).shape)
    assert found == case.shape, (
        f"the output for {list(case.x.shape)} must be {list(case.shape)}, got {list(found)}"
    )


def blocks_and_tiles_are_the_whole(case: Case) -> None:
    """Blocks and tiles of every length give the whole, in float64: nothing that a code depends on
    lies outside what the network says it sees. (One that says neither `causal` nor `reach` is run
    on its whole input only, and this and what follows hold of themselves.)
    """
    net, x, own = case.net, case.x, case.net.block
    if not is_cut(case.net):
        return
    reach, whole = net.reach or [None] * len(case.in_steps), _without_gradients(net, x)
    tiles: list[Sequence[int] | None] = [None]
    tiles += [] if None in reach[1:] or len(reach) == 1 else [(2, 1)[: len(reach) - 1]]
    for block, tile in itertools.product((1, 2, own), tiles):
        net.block = block
        found = _in_pieces(case, [x], tile)
        error = (found - whole).abs().max().item() if found.shape == whole.shape else float("inf")
        assert error < 1e-9 * (1 + whole.abs().max().item()), (
            f"blocks of {block} codes in tiles of {tile or 'all'} differ by {error:.1e} from the "
            f"whole, {list(found.shape)} from {list(whole.shape)}: the reach {reach} is too "
            f"small, or the past is not all that the network saw"
        )
    net.block = own


def pieces_change_no_bit(case: Case) -> None:
    """However an input is cut into pieces, its blocks give the same bits, in float32."""
    if not is_cut(case.net):
        return
    case = case.in_float32()
    together = _in_pieces(case, [case.x])
    for lengths in ((1,), (3, 1, 5), (0, 7)):
        apart = _in_pieces(case, _cut(case.x, lengths))
        assert torch.equal(apart, together), (
            f"pieces of {lengths} steps give other numbers than the input as one piece: the "
            f"network keeps something between two calls besides the past it is given"
        )


def a_causal_network_sees_nothing_later(case: Case) -> None:
    """Of a network that says it is `causal`, other steps at the end leave what is before as it is,
    bit for bit.
    """
    if not case.net.causal:
        return
    case = case.in_float32()
    (each, *_), (own, *_), x = case.in_steps, case.out_steps, case.x
    together = _in_pieces(case, [x])
    for kept in (1, x.shape[2] // each - 1):
        other = torch.cat([x[:, :, : kept * each], _draw(*x.shape).float()], dim=2)
        found = _in_pieces(case, [other])[:, :, : kept * own]
        assert torch.equal(found, together[:, :, : kept * own]), (
            f"what comes after the first {kept} codes changes what they stand for, in a network "
            f"that says it is causal"
        )


LAWS = (
    the_output_fits_the_grid,
    blocks_and_tiles_are_the_whole,
    pieces_change_no_bit,
    a_causal_network_sees_nothing_later,
)


def is_cut(net: Blockwise) -> bool:
    """Whether a network says how its input can be cut along the first axis."""
    return net.causal or bool(net.reach and net.reach[0])


def _built(
    build: Callable[..., Part], rank: int, strides: Sequence[Sequence[int]], channels: int
) -> Part:
    torch.manual_seed(0)
    net = build(rank=rank, channels=channels, z_channels=Z_CHANNELS, strides=strides)
    for parameter in net.parameters():  # a layer that starts at zero would make any law hold
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.double().eval()


def _in_pieces(case: Case, pieces: Iterable[Tensor], tile: Sequence[int] | None = None) -> Tensor:
    blocks, found = Blocks(case.net, case.in_steps, case.out_steps, tile), []
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
