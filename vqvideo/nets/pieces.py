"""Data that comes in pieces along its first axis: filled up to whole codes, cropped again.

Pieces are `[b, c, n, ...]` and may differ in n alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


def filled_up(pieces: Iterable[Tensor], step: int) -> Iterator[Tensor]:
    """The pieces, and at the end the last step again as often as a multiple of `step` lacks.

    Raises:
        ValueError: a piece has another shape than the one before, or no data came.
    """
    length, end = 0, None
    for piece in alike(pieces):
        yield piece
        length += piece.shape[2]
        end = piece[:, :, -1:].clone() if piece.shape[2] else end
    if end is None:
        raise ValueError("the pieces held no data")
    if length % step:
        yield end.expand(-1, -1, step - length % step, *end.shape[3:])


def alike(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """The pieces.

    Raises:
        ValueError: one has another shape than the one before.
    """
    before: Tensor | None = None
    for piece in pieces:
        if before is not None and _but_first(piece) != _but_first(before):
            raise ValueError(
                f"pieces may differ in length alone, got {list(piece.shape)} after "
                f"{list(before.shape[:2])} with {list(before.shape[3:])}"
            )
        yield piece
        before = piece[:, :, :0]


def cropped(pieces: Iterable[Tensor], length: int | None) -> Iterator[Tensor]:
    """The pieces up to a length along the first axis; None is all.

    Raises:
        ValueError: the pieces end before.
    """
    lacking = length
    for piece in pieces:
        if lacking is not None:
            piece = piece[:, :, :lacking]
            lacking -= piece.shape[2]
        if piece.shape[2]:
            yield piece
    if lacking:
        raise ValueError(f"the codes end {lacking} steps before the length {length}")


def _but_first(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:2], *x.shape[3:])
