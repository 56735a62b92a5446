"""Base class of networks on chunks and tiles, and the context that their convolutions need."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from vqvideo.grid import ceil_div


class Context(NamedTuple):
    """Numbers of codes before and after a code on which it depends, along one axis."""

    before: int
    after: int


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

    @property
    def is_chunkable(self) -> bool:
        """Return whether the input can be split into chunks along the first axis."""
        return self.is_causal or bool(self.context and self.context[0])

    def configure_chunks(self, layers: nn.Module, down: Sequence[int], *, causal: bool) -> None:
        """Set the attributes for the convolutions in `layers`, with `down` data steps per code."""
        context = compute_context(layers, down)
        self.is_causal, self.context = causal, (None, *context[1:]) if causal else context
        if len(down) < 3:
            self.chunk_size = 64
        elif causal:
            self.chunk_size = self.causal_chunk_size

    def check_chunkable(self, name: str) -> None:
        """Raise `ValueError` unless the input can be split; `name` is what the network is."""
        if not self.is_chunkable:
            raise ValueError(
                f"this {name} declares no `context` along the first axis, so it cannot process its "
                f"input in chunks; use encode or decode on all of it"
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
    convs = [module for module in layers.modules() if hasattr(module, "transposed")]
    return tuple(_compute_axis_context(axis, convs, steps) for axis, steps in enumerate(down))


def _compute_axis_context(axis: int, convs: Sequence[Any], steps: int) -> Context:
    """Trace the outputs of one code back to the inputs they depend on."""
    is_decoder = any(conv.transposed and conv.stride[axis] > 1 for conv in convs)
    low, high, in_steps = (0, steps - 1, 1) if is_decoder else (0, 0, steps)
    for conv in reversed(convs):
        kernel, stride, padding = (n[axis] for n in (conv.kernel_size, conv.stride, conv.padding))
        assert conv.dilation[axis] == 1, "the context of dilated convolutions is not supported"
        if conv.transposed:  # output o needs inputs i with 0 <= o + padding - stride i < kernel
            low, high = -((kernel - 1 - padding - low) // stride), (high + padding) // stride
        else:
            low, high = low * stride - padding, high * stride - padding + kernel - 1
    before, after = ceil_div(-low, in_steps), ceil_div(high - in_steps + 1, in_steps)
    return Context(max(before, 0), max(after, 0))
