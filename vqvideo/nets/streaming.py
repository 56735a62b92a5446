"""Chunked evaluation of encoders and decoders on inputs of any length, with reproducible results.

An encoder or decoder runs on chunks of a fixed number of codes along the first axis. A causal
network receives each chunk with the last inputs of its layers (`StreamingState`). Any other network
receives each chunk with the codes on both sides that it depends on, its `Context`; the output for
the context is discarded. Large frames are split into tiles in the same way.

Chunk boundaries do not depend on how the input is pushed, and each chunk is computed from the same
values by the same operations, so streaming is bit-identical to processing the whole input. Float32
convolutions alone do not guarantee this: their rounding depends on the input length.

All lengths here are in codes; `in_steps` and `out_steps` are the numbers of input and output steps
per code.
"""

from __future__ import annotations

import itertools
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import ceil_div
from vqvideo.nets.conv import CONV, CONV_TRANSPOSE, StreamingState

CONVOLUTIONS = (*CONV.values(), *CONV_TRANSPOSE.values())


class Context(NamedTuple):
    """Numbers of codes before and after a code on which it depends, along one axis."""

    before: int
    after: int


class Span(NamedTuple):
    """Codes `start` to `end` (exclusive), computed from `context_start` to `context_end`."""

    context_start: int
    start: int
    end: int
    context_end: int

    @classmethod
    def from_start(cls, start: int, num_codes: int, total_codes: int, context: Context) -> Span:
        """Return the span of `num_codes` codes from `start` on, or fewer at the end.

        >>> Span.from_start(4, 4, 7, Context(2, 1))
        Span(context_start=2, start=4, end=7, context_end=7)
        """
        end = min(start + num_codes, total_codes)
        return cls(
            max(start - context.before, 0), start, end, min(end + context.after, total_codes)
        )


def compute_context(layers: nn.Module, down: Sequence[int]) -> tuple[Context, ...]:
    """Compute the context of a sequence of convolutions along every axis, given their padding.

    Args:
        layers: module whose convolutions are registered in the order of evaluation; a branch
            parallel to a convolution (a residual sum) must not need more context than the
            convolution.
        down: data steps per code, one per axis.

    Returns:
        One `Context` per axis; that of a causal first axis is meaningless.
    """
    convs: list[Any] = [m for m in layers.modules() if isinstance(m, CONVOLUTIONS)]
    return tuple(_compute_axis_context(axis, convs, steps) for axis, steps in enumerate(down))


def _compute_axis_context(axis: int, convs: Sequence[Any], steps: int) -> Context:
    """Trace the outputs of one code back to the inputs they depend on."""
    is_decoder = any(conv.transposed and conv.stride[axis] > 1 for conv in convs)
    low, high = 0, steps - 1 if is_decoder else 0
    for conv in reversed(convs):
        kernel, stride, padding = (n[axis] for n in (conv.kernel_size, conv.stride, conv.padding))
        assert conv.dilation[axis] == 1, "the context of dilated convolutions is not supported"
        if (
            conv.transposed
        ):  # output o depends on inputs i with 0 <= o + padding - stride i < kernel
            low, high = -((kernel - 1 - padding - low) // stride), (high + padding) // stride
        else:
            low, high = low * stride - padding, high * stride - padding + kernel - 1
    if is_decoder:
        return Context(max(-low, 0), max(high, 0))
    return Context(max(ceil_div(-low, steps), 0), max(ceil_div(high - steps + 1, steps), 0))


class StreamingModule(nn.Module, ABC):
    """Base class of encoders and decoders that defines how a long input is split into chunks.

    Attributes:
        is_causal: whether the network is causal along the first axis and `forward` takes a
            `StreamingState`, which it updates in place.
        context: numbers of codes on each side that a code depends on, one `Context` per axis.
            None for an axis means that it depends on all codes along it, and the axis is not
            split; None instead of the tuple means this for every axis. A causal network needs no
            context along the first axis.
        chunk_size: codes per chunk along the first axis.
        causal_chunk_size: the same, for causal video networks.
    """

    is_causal: bool = False
    context: tuple[Context | None, ...] | None = None
    chunk_size: int = 8
    causal_chunk_size: int = 4

    def configure_chunks(self, layers: nn.Module, down: Sequence[int], *, causal: bool) -> None:
        """Set the attributes for the convolutions in `layers`, with `down` data steps per code."""
        context = compute_context(layers, down)
        self.is_causal, self.context = causal, (None, *context[1:]) if causal else context
        if len(down) < 3:
            self.chunk_size = 64
        elif causal:
            self.chunk_size = self.causal_chunk_size


class ChunkedRunner:
    """Runner for an encoder or decoder on an input that arrives in parts of any length.

    `push` adds input, and `pop` returns the next chunk of the output as soon as the input it
    depends on is available. Only one chunk with its context and the last input are in memory.

    Args:
        net: an encoder or a decoder.
        in_steps: input steps per code, one per axis.
        out_steps: output steps per code, one per axis.
        tile: codes per tile along the other axes, one per axis; None means whole frames.
        forward_fn: function called with each chunk, and also with a `StreamingState` if the network
            is causal; None means the network itself.
        postprocess: function applied to each chunk of the output `[b, c, m, ...]`, which must keep
            the number of steps m. A causal network's chunks all have the same m: the last one is
            cropped to the input afterwards. None returns the output itself.

    Raises:
        ValueError: `tile` does not have one size per axis, or the network has no context along such
            an axis.
    """

    def __init__(
        self,
        net: StreamingModule,
        in_steps: Sequence[int],
        out_steps: Sequence[int],
        tile: Sequence[int] | None = None,
        forward_fn: Callable[..., Tensor] | None = None,
        postprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        context = net.context or [None] * len(in_steps)
        if tile is not None:
            _check_tile(tile, context[1:])
        first = Context(0, 0) if net.is_causal else context[0]
        self.net, self.tile, self.forward_fn = net, tile, forward_fn or net
        self.postprocess = postprocess or (lambda output: output)
        self.chunk_size = net.chunk_size if first else None  # None: the whole input at once
        self.contexts = [first or Context(0, 0), *(along or Context(0, 0) for along in context[1:])]
        self.in_steps, self.out_steps = in_steps, out_steps
        self.states: dict[tuple[Span, ...], StreamingState] = {}
        self.pending: Tensor | None = None  # input from code `pending_start` on
        self.pending_start = self.num_done = 0

    def run(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Push each chunk of the input and yield the chunks of the output, without gradients."""
        for chunk in itertools.chain(chunks, [None]):
            if chunk is not None:
                self.push(chunk)
            while True:
                with torch.no_grad():  # not around `yield`, which leaves the caller in this mode
                    output = self.pop(last=chunk is None)
                if output is None:
                    break
                yield output

    def push(self, x: Tensor) -> None:
        """Add the next steps `[b, c, n, ...]` of the input, for any n."""
        self.pending = x if self.pending is None else torch.cat([self.pending, x], dim=2)

    def pop(self, *, last: bool = False) -> Tensor | None:
        """Return the next chunk of the output `[b, c, m, ...]`, or None if it needs more input.

        Args:
            last: whether the input is complete. Its length must then be a whole number of codes.
        """
        if self.pending is None:
            return None
        size = self.pending_start + self.pending.shape[2] // self.in_steps[0]
        assert not last or self.pending.shape[2] % self.in_steps[0] == 0
        is_incomplete = (
            self.chunk_size is None
            or size < self.num_done + self.chunk_size + self.contexts[0].after
        )
        if size == self.num_done or (is_incomplete and not last):
            return None
        span = Span.from_start(self.num_done, self.chunk_size or size, size, self.contexts[0])
        out = self._run_chunk(self.pending, span)
        self.num_done, keep_from = span.end, max(span.end - self.contexts[0].before, 0)
        self.pending = self.pending[:, :, (keep_from - self.pending_start) * self.in_steps[0] :]
        self.pending_start = keep_from
        return out

    def _run_chunk(self, pending: Tensor, span: Span) -> Tensor:
        """Return one chunk of the output, computed from the pending input."""
        steps, num_codes = self.in_steps[0], span.end - span.start
        x = pending.narrow(
            2,
            (span.context_start - self.pending_start) * steps,
            (span.context_end - span.context_start) * steps,
        )
        if self.net.is_causal:  # pad a short last chunk, so that all have one length
            x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, (self.net.chunk_size - num_codes) * steps))
            end = span.start + self.net.chunk_size
            span = span._replace(end=end, context_end=end)
        out = self.postprocess(self._run_tiles(x, (span,)))
        return out.narrow(2, 0, num_codes * self.out_steps[0])

    def _run_tiles(self, x: Tensor, spans: tuple[Span, ...]) -> Tensor:
        """Return a chunk of the output, computed tile by tile along the axes not yet in `spans`."""
        axis = len(spans)
        if axis == len(self.in_steps):
            return self._run_tile(x, spans)
        size = x.shape[2 + axis] // self.in_steps[axis]
        tile = size if self.tile is None else self.tile[axis - 1]
        parts = [
            self._run_tiles(x, (*spans, Span.from_start(start, tile, size, self.contexts[axis])))
            for start in range(0, size, tile)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2 + axis)

    def _run_tile(self, x: Tensor, spans: tuple[Span, ...]) -> Tensor:
        """Return the output of one tile of a chunk, without its context."""
        for axis, span in enumerate(spans[1:], start=1):
            steps = self.in_steps[axis]
            x = x.narrow(
                2 + axis,
                span.context_start * steps,
                (span.context_end - span.context_start) * steps,
            )
        # The memory format affects the rounding of convolutions, so always use the same.
        x = x.contiguous()
        if self.net.is_causal:
            out = self.forward_fn(x, self.states.setdefault(spans[1:], StreamingState()))
        else:
            out = self.forward_fn(x)
        for axis, (span, steps) in enumerate(zip(spans, self.out_steps, strict=True)):
            out = out.narrow(
                2 + axis, (span.start - span.context_start) * steps, (span.end - span.start) * steps
            )
        return out


def _check_tile(tile: Sequence[int], contexts: Sequence[Context | None]) -> None:
    if len(tile) != len(contexts) or any(not isinstance(n, int) or n < 1 for n in tile):
        raise ValueError(
            f"tile must hold {len(contexts)} integers >= 1, codes along each axis except the "
            f"first, got {tile}"
        )
    if None in contexts:
        raise ValueError(
            "this network has no finite context within a frame (`context`), so frames cannot be "
            "split into tiles; leave out tile"
        )
