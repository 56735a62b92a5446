"""Grids that laws are checked on, and comparisons of tensors and module states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}
SMALL_GRIDS = {1: (5,), 2: (3, 4), 3: (3, 2, 3)}  # for laws that run the prior many times
TINY_GRIDS = {1: (6,), 2: (2, 3), 3: (2, 2, 2)}
MICRO_GRIDS = {1: (3,), 2: (2, 2), 3: (2, 2, 1)}  # small enough for two codes per position
TWO_POSITION_GRIDS = {1: (2,), 2: (1, 2), 3: (2, 1, 1)}

# Axes of size 1 in each position, and axes smaller than a kernel.
NARROW_GRIDS: dict[int, list[tuple[int, ...]]] = {
    1: [(1,), (2,)],
    2: [(1, 5), (4, 1), (2, 2)],
    3: [(1, 4, 5), (3, 1, 5), (3, 4, 1), (2, 2, 2)],
}
# Long along each axis in turn, so that the receptive field of a few layers ends inside.
LONG_GRIDS: dict[int, list[tuple[int, ...]]] = {
    1: [(23,)],
    2: [(9, 2), (2, 13)],
    3: [(7, 1, 2), (2, 8, 2), (2, 2, 11)],
}


def check_rank(rank: int) -> None:
    """Raise `ValueError` for a rank other than 1, 2 or 3."""
    if rank not in GRIDS:
        raise ValueError(f"laws are checked on grids of rank 1, 2 or 3, got rank {rank!r}")


def find_differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are not bitwise equal."""
    return [name for name in one if not torch.equal(one[name], other[name])]


def format_mismatch(one: Tensor, other: Tensor) -> str:
    """Return the number of unequal elements of two tensors as text.

    >>> format_mismatch(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4]))
    '1 of 3'
    """
    return f"{int((one != other).sum())} of {one.numel()}"


def assert_equal(one: nn.Module, other: nn.Module, message: str) -> None:
    """Raise `AssertionError`, naming the entries, if the state dicts of two modules differ."""
    changed = find_differences(one.state_dict(), other.state_dict())
    assert not changed, f"{message} {', '.join(changed)}"


def assert_equal_values(name: str, actual: Tensor, expected: Tensor, where: str) -> None:
    """Raise `AssertionError`, saying where, unless two tensors are bitwise equal."""
    assert actual.shape == expected.shape, (
        f"{name} {list(expected.shape)} become {list(actual.shape)} when {where}"
    )
    assert torch.equal(actual, expected), (
        f"{format_mismatch(actual, expected)} values of {name} differ when {where}"
    )
