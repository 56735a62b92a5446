"""Encoders and decoders on inputs of any length, with the same bits however the input arrives.

A network runs on chunks of a fixed number of codes along the first axis. There are two ways to give
a chunk what it depends on. A causal network keeps the last inputs of its layers in a
`StreamingState`. Any other network receives each chunk with the codes on both sides that it depends
on, its `Context`, and the output for the context is discarded. Large frames are split into tiles in
the second way. A `StreamingModule` declares its way (module.py), a `ChunkedRunner` runs it
(runner.py).

Chunk boundaries do not depend on how the input is pushed, and each chunk is computed from the same
values by the same operations, so streaming is bit-identical to processing the whole input. Float32
convolutions alone do not guarantee this: their rounding depends on the input length. So there is
one path: `VQVAE.encode` is `VQVAE.encode_stream` of one chunk, and `decode` likewise.

This package lies below `nets`, whose layers and networks are built on its classes. It knows no
architecture, codebook or likelihood: `encode_chunks` and `decode_chunks` call the parts of the
model that they are given (codec.py).
"""

from vqvideo.streaming.codec import DecodingOptions, crop, pad_to_multiple
from vqvideo.streaming.module import Context, StreamingModule, compute_context
from vqvideo.streaming.runner import (
    CausalModule,
    CausalSequential,
    ChunkedRunner,
    StreamingState,
    decode_chunks,
    encode_chunks,
)

__all__ = [
    "CausalModule",
    "CausalSequential",
    "ChunkedRunner",
    "Context",
    "DecodingOptions",
    "StreamingModule",
    "StreamingState",
    "compute_context",
    "crop",
    "decode_chunks",
    "encode_chunks",
    "pad_to_multiple",
]
