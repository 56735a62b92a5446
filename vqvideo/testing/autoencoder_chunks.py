"""Laws of networks that are run chunk by chunk: chunks and tiles match a full pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vqvideo.streaming import ChunkedRunner
from vqvideo.testing.autoencoder_setup import AutoencoderCase, forward_no_grad, sample_normal

REFERENCE = "vqvideo.streaming.StreamingModule"


def chunks_and_tiles_match_the_whole(case: AutoencoderCase) -> None:
    """Chunks and tiles of every size give the output of the full pass, in float64: no code depends
    on input outside the declared `context`. (A network with neither `is_causal` nor `context` only
    runs on its full input and satisfies this law and the next trivially.)
    """
    net, x, default_chunk_size = case.net, case.x, case.net.chunk_size
    if not case.net.is_chunkable:
        return
    context, full = net.context or [None] * len(case.in_steps), forward_no_grad(net, x)
    tiles: list[Sequence[int] | None] = [None]
    tiles += [] if None in context[1:] or len(context) == 1 else [(2, 1)[: len(context) - 1]]
    for chunk_size, tile in itertools.product((1, 2, default_chunk_size), tiles):
        net.chunk_size = chunk_size
        output = _run_chunked(case, [x], tile)
        error = (output - full).abs().max().item() if output.shape == full.shape else float("inf")
        assert error < 1e-9 * (1 + full.abs().max().item()), (
            f"chunks of {chunk_size} codes in tiles of {tile or 'all'} differ by {error:.1e} from "
            f"the whole, {list(output.shape)} from {list(full.shape)}: the context {context} is "
            f"too small, or the streaming state is incomplete"
        )
    net.chunk_size = default_chunk_size


def splitting_the_input_changes_no_bit(case: AutoencoderCase) -> None:
    """The output is bitwise the same however the input is split into chunks, in float32."""
    if not case.net.is_chunkable:
        return
    case = case.to_float32()
    full_output = _run_chunked(case, [case.x])
    for lengths in ((1,), (3, 1, 5), (0, 7)):
        split = _run_chunked(case, _split(case.x, lengths))
        assert torch.equal(split, full_output), (
            f"chunks of {lengths} steps give other values than the input as one chunk: the "
            f"network keeps state between calls besides the streaming state it is given"
        )


def a_causal_network_ignores_later_steps(case: AutoencoderCase) -> None:
    """In a network with `is_causal`, changing the last steps of the input leaves all earlier
    outputs bitwise the same.
    """
    if not case.net.is_causal:
        return
    case = case.to_float32()
    (in_step, *_), (out_step, *_), x = case.in_steps, case.out_steps, case.x
    full_output = _run_chunked(case, [x])
    for num_kept in (1, x.shape[2] // in_step - 1):
        other = torch.cat([x[:, :, : num_kept * in_step], sample_normal(*x.shape).float()], dim=2)
        output = _run_chunked(case, [other])[:, :, : num_kept * out_step]
        assert torch.equal(output, full_output[:, :, : num_kept * out_step]), (
            f"input after the first {num_kept} codes changes their output, although the network "
            f"declares is_causal"
        )


def _run_chunked(
    case: AutoencoderCase, chunks: Iterable[Tensor], tile: Sequence[int] | None = None
) -> Tensor:
    runner = ChunkedRunner(case.net, in_steps=case.in_steps, out_steps=case.out_steps, tile=tile)
    return torch.cat(list(runner.run(chunks)), dim=2)


def _split(x: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
    """Yield chunks along the first axis, cycling through the lengths."""
    start = 0
    for length in itertools.cycle(lengths):
        yield x[:, :, start : start + length]
        start += length
        if start >= x.shape[2]:
            return
