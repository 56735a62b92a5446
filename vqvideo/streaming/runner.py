"""Run a network chunk by chunk: layers with a state, chunks and tiles, encoding and decoding.

All lengths here are in codes; `in_steps` and `out_steps` are the numbers of input and output steps
per code. Data, z_e and z_q are floats `[b, c, n, ...]`; codes are integers `[b, n, ...]`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.arguments import to_codes
from vqvideo.modes import eval_view
from vqvideo.streaming.codec import Codec
from vqvideo.streaming.module import Context, StreamingModule


class StreamingState(dict[nn.Module, Tensor]):
    """The last inputs of the causal layers of a network: its state between two chunks of an input.

    Pass a new state with the first chunk; the network updates it in place. The input before the
    first step is zero, as with zero padding.
    """

    def __bool__(self) -> bool:
        """Return True: a new state, which holds nothing yet, is not the absence of a state."""
        return True

    def prepend(self, x: Tensor, num_steps: int, layer: nn.Module) -> Tensor:
        """Prepend the last `num_steps` steps of the input of `layer` to `x` and update them."""
        context = self.get(layer)
        if context is None:
            context = x.new_zeros(*x.shape[:2], num_steps, *x.shape[3:])
        padded = torch.cat([context, x], dim=2)
        # A copy, since a view would keep all of `padded` in memory.
        self[layer] = padded[:, :, padded.shape[2] - num_steps :].clone()
        return padded


class CausalModule(nn.Module):
    """Base class of layers that are causal along the first axis.

    `forward` takes an optional `StreamingState`; without one, `x` is the whole input.
    """

    def prepend_context(self, x: Tensor, num_steps: int, state: StreamingState | None) -> Tensor:
        """Prepend the previous `num_steps` steps to `x` `[b, c, n, ...]`; zeros without a state."""
        if state is None:  # F.pad starts with the last axis
            return F.pad(x, (0, 0) * (x.ndim - 3) + (num_steps, 0))
        return state.prepend(x, num_steps, self)


class CausalSequential(nn.Sequential):
    """`nn.Sequential` that passes the streaming state to its causal layers."""

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        for layer in self:
            x = layer(x, state) if isinstance(layer, CausalModule) else layer(x)
        return x


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


class ChunkedRunner:
    """Runner for an encoder or decoder on an input that arrives in parts of any length.

    Args:
        net: an encoder or a decoder.
        in_steps: input steps per code, one per axis; None means 1.
        out_steps: the same for the output. One of the two must be given.
        tile: codes per tile along the other axes, one per axis; None means whole frames.
        preprocess: function applied to each tile of the input before the network.
        postprocess: function applied to each chunk of the output of the network. It must keep the
            number of steps. A causal network's chunks all have the same one: the last chunk is
            cropped to the input afterwards.

    Raises:
        ValueError: `tile` does not have one size per axis, or the network has no context along such
            an axis.
    """

    def __init__(
        self,
        net: StreamingModule,
        *,
        in_steps: Sequence[int] | None = None,
        out_steps: Sequence[int] | None = None,
        tile: Sequence[int] | None = None,
        preprocess: Callable[[Tensor], Tensor] | None = None,
        postprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        ones = (1,) * len(in_steps or out_steps or ())
        first, *others = net.context or [None] * len(ones)
        if tile is not None:
            _check_tile(tile, others)
        if net.is_causal:
            first = Context(0, 0)
        self.net, self.in_steps, self.out_steps = net, in_steps or ones, out_steps or ones
        self.preprocess, self.postprocess = preprocess, postprocess
        self.tile = tile or [sys.maxsize] * len(others)
        self.chunk_size = net.chunk_size if first else sys.maxsize  # the whole input at once
        self.contexts = [context or Context(0, 0) for context in (first, *others)]
        self.states: dict[tuple[Span, ...], StreamingState] = {}

    def run(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield chunks of the output, without gradients, each as soon as its input is complete.

        Only one chunk with its context and the last part of the input are in memory.

        Args:
            chunks: parts of the input, of any length along the first axis. Together they must be a
                whole number of codes.

        Raises:
            ValueError: a chunk has another shape than the previous one.
        """
        pending: Tensor | None = None
        num_done = 0  # codes at the start of `pending` that are needed as context only
        for chunk in itertools.chain(chunks, [None]):
            if chunk is not None:
                pending = chunk if pending is None else _append(pending, chunk)
            if pending is None:
                return
            axis, steps = _get_first_axis(pending), self.in_steps[0]
            size = pending.shape[axis]
            assert chunk is not None or size % steps == 0
            num_needed = 1 if chunk is None else self.chunk_size + self.contexts[0].after
            while size // steps - num_done >= num_needed:
                span = Span.from_start(num_done, self.chunk_size, size // steps, self.contexts[0])
                yield self._run_chunk(pending, span)
                num_done = min(span.end, self.contexts[0].before)
                offset = (span.end - num_done) * steps
                size -= offset
                pending = pending.narrow(axis, offset, size)

    @torch.no_grad()  # not around `yield`, which would leave the caller in this mode
    def _run_chunk(self, x: Tensor, span: Span) -> Tensor:
        """Return one chunk of the output, computed tile by tile from the pending input."""
        axis, num_codes = _get_first_axis(x), span.end - span.start
        if self.net.is_causal and num_codes < self.chunk_size:  # so that all have one length
            num_missing = (self.chunk_size - num_codes) * self.in_steps[0]
            x = F.pad(x, (0, 0) * (x.ndim - axis - 1) + (0, num_missing))
            span = Span(0, 0, self.chunk_size, self.chunk_size)
        tiles = [[span]]
        for i in range(1, len(self.in_steps)):
            size = x.shape[axis + i] // self.in_steps[i]
            starts, tile = range(0, size, self.tile[i - 1]), self.tile[i - 1]
            tiles.append([Span.from_start(n, tile, size, self.contexts[i]) for n in starts])
        parts = [self._run_tile(x, spans) for spans in itertools.product(*tiles)]
        for i in reversed(range(1, len(tiles))):  # join along the last axis first
            n = len(tiles[i])
            if n > 1:
                parts = [torch.cat(parts[j : j + n], dim=2 + i) for j in range(0, len(parts), n)]
        out = parts[0] if self.postprocess is None else self.postprocess(parts[0])
        return out.narrow(_get_first_axis(out), 0, num_codes * self.out_steps[0])

    def _run_tile(self, x: Tensor, spans: tuple[Span, ...]) -> Tensor:
        """Return the output of one tile of a chunk, without its context."""
        first_axis = _get_first_axis(x)
        for axis, (span, steps) in enumerate(zip(spans, self.in_steps, strict=True)):
            num_codes = span.context_end - span.context_start
            x = x.narrow(first_axis + axis, span.context_start * steps, num_codes * steps)
        # The memory format affects the rounding of convolutions, so always use the same.
        x = x.contiguous()
        if self.preprocess is not None:
            x = self.preprocess(x)
        state = [self.states.setdefault(spans[1:], StreamingState())] if self.net.is_causal else []
        out = self.net(x, *state)
        for axis, (span, steps) in enumerate(zip(spans, self.out_steps, strict=True)):
            start, num_codes = span.start - span.context_start, span.end - span.start
            out = out.narrow(2 + axis, start * steps, num_codes * steps)
        return out  # type: ignore[no-any-return]


def encode_chunks(
    codec: Codec, chunks: Iterable[Tensor], tile: Sequence[int] | None
) -> Iterator[Tensor]:
    """Yield the codes of data whose checked chunks are together a whole number of codes."""
    encoder, quantizer = eval_view(codec.encoder), eval_view(codec.quantizer)

    def quantize(z_e: Tensor) -> Tensor:
        return quantizer(z_e).codes  # type: ignore[no-any-return]

    # Whole chunks are quantized: the matrix products of projection and search round differently
    # with the number of rows, so the end of the data would change codes before it.
    down = codec.encoder.downsampling
    return ChunkedRunner(encoder, in_steps=down, tile=tile, postprocess=quantize).run(chunks)


def decode_chunks(
    codec: Codec,
    chunks: Iterable[Tensor],
    cond: Any,
    *,
    tile: Sequence[int] | None = None,
    temperature: float | None = None,
    **options: Any,
) -> Iterator[Tensor]:
    """Yield the data of codes; for the options see `DecodingOptions`."""
    view, down = eval_view(codec), codec.encoder.downsampling
    is_conditional = cond is not None or not view.cond_embedding.is_identity

    def to_decoder_input(codes: Tensor) -> Tensor:
        z_q: Tensor = view.quantizer.decode(codes)
        return view.cond_embedding(z_q, cond) if is_conditional else z_q

    runner = ChunkedRunner(view.decoder, out_steps=down, tile=tile, preprocess=to_decoder_input)
    if temperature is None:
        temperature = view.likelihood.default_temperature
    chunks = (to_codes(chunk, len(down), view.quantizer.num_codebooks) for chunk in chunks)
    parameters = runner.run(chunks)
    return view.likelihood.sample_stream(parameters, temperature=temperature, **options)  # type: ignore[no-any-return]


def _get_first_axis(x: Tensor) -> int:
    """Return the index of the first axis of the grid: codes have no channels before it."""
    return 2 if x.is_floating_point() else 1


def _append(pending: Tensor, chunk: Tensor) -> Tensor:
    axis = _get_first_axis(chunk)
    shape, expected = list(chunk.shape), list(pending.shape)
    if (shape[:axis], shape[axis + 1 :]) != (expected[:axis], expected[axis + 1 :]):
        raise ValueError(
            f"chunks may differ in length only, got {shape} after {expected[:axis]} with "
            f"{expected[axis + 1 :]}"
        )
    return torch.cat([pending, chunk], dim=axis)


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
