"""A network over an input of any length, block by block: the same numbers however it arrives.

An encoder or decoder is run over blocks of a fixed number of codes along the first axis, never
over more at once. A causal network takes each block with what its layers saw last (`Past`). Any
other is shown the codes on both sides that a block depends on, its `Reach`, and what it makes of
those is cut off. Large frames are cut into tiles by the same arithmetic.

Blocks lie where they lie whatever pieces the input comes in, and each is worked out from the same
numbers by the same operations: a stream gives, bit for bit, what the whole gives. Float32
convolutions would not do so by themselves; they round differently with the length of their input.

Everything here is counted in codes; `in_steps` and `out_steps` say how many steps of the input and
of the output one code stands for.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import codes_needed
from vqvideo.nets.conv import CONV, CONV_TRANSPOSE, Past

CONVOLUTIONS = (*CONV.values(), *CONV_TRANSPOSE.values())


class Reach(NamedTuple):
    """How many codes before and after a code it has to do with, along one axis."""

    before: int
    after: int


class Span(NamedTuple):
    """Codes from `start` to `end`, worked out from those from `first` to `until`."""

    first: int
    start: int
    end: int
    until: int

    @classmethod
    def of(cls, start: int, step: int, size: int, reach: Reach) -> Span:
        """`step` codes from `start` on, or what is left of `size` codes.

        >>> Span.of(4, 4, 7, Reach(2, 1))
        Span(first=2, start=4, end=7, until=7)
        """
        end = min(start + step, size)
        return cls(max(start - reach.before, 0), start, end, min(end + reach.after, size))


def reach_of(layers: nn.Module, down: Sequence[int]) -> tuple[Reach, ...]:
    """The reach along every axis of convolutions that follow each other, as their paddings say.

    Args:
        layers: their order is that in which they were made; what lies beside a convolution (a
            residual sum) reaches no further than it.
        down: data steps per code, one per axis.

    Returns:
        One `Reach` for each axis, but nothing of use for a causal first axis.
    """
    convs: list[Any] = [m for m in layers.modules() if isinstance(m, CONVOLUTIONS)]
    return tuple(_reach_along(axis, convs, steps) for axis, steps in enumerate(down))


def _reach_along(axis: int, convs: Sequence[Any], steps: int) -> Reach:
    """Walk back from the outputs of one code to the inputs that they are made of."""
    grows = any(conv.transposed and conv.stride[axis] > 1 for conv in convs)
    low, high = 0, steps - 1 if grows else 0
    for conv in reversed(convs):
        kernel, stride, padding = (n[axis] for n in (conv.kernel_size, conv.stride, conv.padding))
        assert conv.dilation[axis] == 1, "a reach is worked out for plain convolutions only"
        if conv.transposed:  # output o is made of the inputs i with 0 <= o + padding - stride i < k
            low, high = -((kernel - 1 - padding - low) // stride), (high + padding) // stride
        else:
            low, high = low * stride - padding, high * stride - padding + kernel - 1
    if grows:
        return Reach(max(-low, 0), max(high, 0))
    return Reach(max(codes_needed(-low, steps), 0), max(codes_needed(high - steps + 1, steps), 0))


class Blockwise(nn.Module, ABC):
    """What an encoder and a decoder have in common: how a long input is cut into blocks.

    Attributes:
        causal: whether it never looks ahead along the first axis and `forward` takes a `Past`,
            which it goes on from and leaves behind for the next piece.
        reach: how many codes to either side a code has to do with, one `Reach` per axis; None for
            an axis means all of it, None alone means that of every axis. Along an axis without a
            reach an input is worked on whole. A causal network needs none along the first axis.
        block: codes along the first axis that are worked on at once, where there are more.
        causal_block: the same for causal networks of video.
    """

    causal: bool = False
    reach: tuple[Reach | None, ...] | None = None
    block: int = 8
    causal_block: int = 4

    def cut_as(self, layers: nn.Module, down: Sequence[int], *, causal: bool) -> None:
        """Say how an input is cut, for convolutions `layers` of so many data steps per code."""
        reach = reach_of(layers, down)
        self.causal, self.reach = causal, (None, *reach[1:]) if causal else reach
        if len(down) < 3:
            self.block = 64
        elif causal:
            self.block = self.causal_block


class Blocks:
    """An encoder or decoder that is fed an input piece by piece.

    `push` takes a piece, `ready` gives the next block of the output once what it depends on has
    come. Memory holds one block and its reach, besides the piece that was pushed last.

    Args:
        net: an encoder or a decoder.
        in_steps: steps of its input per code, one per axis.
        out_steps: likewise of its output.
        tile: codes along the other axes that are worked on at once, one per axis; None is all.
        run: what is called on each block, and with a `Past` if the network is causal; None is the
            network itself.

    Raises:
        ValueError: a tile that is not one size per axis, or the network says no reach there.
    """

    def __init__(
        self,
        net: Blockwise,
        in_steps: Sequence[int],
        out_steps: Sequence[int],
        tile: Sequence[int] | None = None,
        run: Callable[..., Tensor] | None = None,
    ) -> None:
        reach = net.reach or [None] * len(in_steps)
        if tile is not None:
            _check_tile(tile, reach[1:])
        first = Reach(0, 0) if net.causal else reach[0]
        self.net, self.tile, self.run = net, tile, run or net
        self.block = net.block if first else None  # None: the whole input at once
        self.reach = [first or Reach(0, 0), *(along or Reach(0, 0) for along in reach[1:])]
        self.in_steps, self.out_steps = in_steps, out_steps
        self.pasts: dict[tuple[Span, ...], Past] = {}
        self.held: Tensor | None = None  # the end of the input, from the code `held_from` on
        self.held_from = self.done = 0

    def push(self, x: Tensor) -> None:
        """Take the next steps `[b, c, n, ...]` of the input; n may be any number."""
        self.held = x if self.held is None else torch.cat([self.held, x], dim=2)

    def ready(self, *, last: bool = False) -> Tensor | None:
        """The next block of the output `[b, c, m, ...]`, or None if it needs more of the input.

        Args:
            last: nothing more will come. The input must then be a whole number of codes long.
        """
        if self.held is None:
            return None
        size = self.held_from + self.held.shape[2] // self.in_steps[0]
        assert not last or self.held.shape[2] % self.in_steps[0] == 0
        lacking = self.block is None or size < self.done + self.block + self.reach[0].after
        if size == self.done or (lacking and not last):
            return None
        span = Span.of(self.done, self.block or size, size, self.reach[0])
        out = self._run(self.held, span)
        self.done, keep_from = span.end, max(span.end - self.reach[0].before, 0)
        self.held = self.held[:, :, (keep_from - self.held_from) * self.in_steps[0] :]
        self.held_from = keep_from
        return out

    def _run(self, held: Tensor, span: Span) -> Tensor:
        """One block of the output, from what is held of the input."""
        steps = self.in_steps[0]
        x = held.narrow(2, (span.first - self.held_from) * steps, (span.until - span.first) * steps)
        if self.net.causal:  # a short last block is filled up: as if more had come
            lacking = self.net.block - (span.end - span.start)
            x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, lacking * steps))
        return self._in_tiles(x, (span,))

    def _in_tiles(self, x: Tensor, spans: tuple[Span, ...]) -> Tensor:
        """A block, tile by tile along the axes that `spans` do not say anything about yet."""
        axis = len(spans)
        if axis == len(self.in_steps):
            return self._tile(x, spans)
        size = x.shape[2 + axis] // self.in_steps[axis]
        step = size if self.tile is None else self.tile[axis - 1]
        parts = [
            self._in_tiles(x, (*spans, Span.of(start, step, size, self.reach[axis])))
            for start in range(0, size, step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2 + axis)

    def _tile(self, x: Tensor, spans: tuple[Span, ...]) -> Tensor:
        """What the network makes of one tile of a block, without what surrounds it."""
        for axis, span in enumerate(spans[1:], start=1):
            steps = self.in_steps[axis]
            x = x.narrow(2 + axis, span.first * steps, (span.until - span.first) * steps)
        # How memory is laid out decides how a convolution rounds, so it is always the same.
        x = x.contiguous()
        if self.net.causal:
            out = self.run(x, self.pasts.setdefault(spans[1:], Past()))
        else:
            out = self.run(x)
        for axis, (span, steps) in enumerate(zip(spans, self.out_steps, strict=True)):
            out = out.narrow(
                2 + axis, (span.start - span.first) * steps, (span.end - span.start) * steps
            )
        return out


def _check_tile(tile: Sequence[int], reach: Sequence[Reach | None]) -> None:
    if len(tile) != len(reach) or any(not isinstance(n, int) or n < 1 for n in tile):
        raise ValueError(
            f"tile must hold {len(reach)} integers >= 1, codes along each axis but the first, "
            f"got {tile}"
        )
    if None in reach:
        raise ValueError(
            "this network does not say how far it looks within a frame (`reach`), so frames "
            "cannot be cut into tiles; leave out tile"
        )
