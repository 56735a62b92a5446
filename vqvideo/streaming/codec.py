"""Interface of a model for chunked encoding and decoding; options, padding and cropping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypedDict

from torch import Tensor


class DecodingOptions(TypedDict, total=False):
    """Options of `VQVAE.decode` and `VQVAE.decode_stream`.

    Attributes:
        tile: tile size in codes, one per axis except the first, for frames that do not fit in
            memory; None processes whole frames. Different tile sizes round differently.
        temperature: 0 gives the mode of the likelihood, 1 a sample; see
            `Likelihood.sample_stream`. None uses the likelihood's `default_temperature`, 0 unless
            it is autoregressive.
        seed: seed of the noise of a sample; a single seed, or one per item if the likelihood is
            autoregressive.
        known: data `[b, c, n, ...]` of the first n steps, which an autoregressive likelihood
            continues.
    """

    tile: Sequence[int] | None
    temperature: float | None
    seed: int | Sequence[int]
    known: Tensor | None


class Codec(Protocol):
    """The parts of a `VQVAE` that `encode_chunks` and `decode_chunks` use."""

    encoder: Any
    quantizer: Any
    cond_embedding: Any
    decoder: Any
    likelihood: Any


def pad_to_multiple(chunks: Iterable[Tensor], multiple: int) -> Iterator[Tensor]:
    """Yield the chunks, then repeat the last step until the length is a multiple of `multiple`.

    Raises:
        ValueError: there is no data.
    """
    length, last_step = 0, None
    for chunk in chunks:
        yield chunk
        length += chunk.shape[2]
        last_step = chunk[:, :, -1:].clone() if chunk.shape[2] else last_step
    if last_step is None:
        raise ValueError("the chunks contain no data")
    if length % multiple:
        yield last_step.expand(-1, -1, multiple - length % multiple, *last_step.shape[3:])


def crop(chunks: Iterable[Tensor], length: int | None) -> Iterator[Tensor]:
    """Yield the chunks up to a length along the first axis; None means all.

    Raises:
        ValueError: the chunks are shorter than `length`.
    """
    remaining = length
    for chunk in chunks:
        if remaining is not None:
            chunk = chunk[:, :, :remaining]
            remaining -= chunk.shape[2]
        if chunk.shape[2]:
            yield chunk
    if remaining:
        raise ValueError(f"the codes end {remaining} steps before the length {length}")
