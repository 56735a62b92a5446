"""Utilities for data in chunks along its first axis: padding, cropping, shape checks.

Chunks are `[b, c, n, ...]` and may differ in n only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


def pad_to_multiple(chunks: Iterable[Tensor], multiple: int) -> Iterator[Tensor]:
    """Yield the chunks, then repeat the last step until the length is a multiple of `multiple`.

    Raises:
        ValueError: a chunk has another shape than the previous one, or there is no data.
    """
    length, last_step = 0, None
    for chunk in check_shapes(chunks):
        yield chunk
        length += chunk.shape[2]
        last_step = chunk[:, :, -1:].clone() if chunk.shape[2] else last_step
    if last_step is None:
        raise ValueError("the chunks contain no data")
    if length % multiple:
        yield last_step.expand(-1, -1, multiple - length % multiple, *last_step.shape[3:])


def check_shapes(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the chunks unchanged.

    Raises:
        ValueError: a chunk has another shape than the previous one.
    """
    previous: Tensor | None = None
    for chunk in chunks:
        if previous is not None and _drop_first_axis(chunk) != _drop_first_axis(previous):
            raise ValueError(
                f"chunks may differ in length only, got {list(chunk.shape)} after "
                f"{list(previous.shape[:2])} with {list(previous.shape[3:])}"
            )
        yield chunk
        previous = chunk[:, :, :0]


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


def _drop_first_axis(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:2], *x.shape[3:])
