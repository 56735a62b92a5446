"""Laws of networks that are run block by block: blocks, tiles and pieces are the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vqvideo.nets.blocks import Blocks, Blockwise
from vqvideo.testing.autoencoder_setup import Case, drawn, without_gradients

READ = "vqvideo.nets.blocks.Blockwise"


def blocks_and_tiles_are_the_whole(case: Case) -> None:
    """Blocks and tiles of every length give the whole, in float64: nothing that a code depends on
    lies outside what the network says it sees. (One that says neither `causal` nor `reach` is run
    on its whole input only, and this and what follows hold of themselves.)
    """
    net, x, own = case.net, case.x, case.net.block
    if not is_cut(case.net):
        return
    reach, whole = net.reach or [None] * len(case.in_steps), without_gradients(net, x)
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
        other = torch.cat([x[:, :, : kept * each], drawn(*x.shape).float()], dim=2)
        found = _in_pieces(case, [other])[:, :, : kept * own]
        assert torch.equal(found, together[:, :, : kept * own]), (
            f"what comes after the first {kept} codes changes what they stand for, in a network "
            f"that says it is causal"
        )


def is_cut(net: Blockwise) -> bool:
    """Whether a network says how its input can be cut along the first axis."""
    return net.causal or bool(net.reach and net.reach[0])


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
