"""The grids that laws are checked on, and how two tensors and two states are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}
SMALL_GRIDS = {1: (5,), 2: (3, 4), 3: (3, 2, 3)}  # for what is checked many times over
TINY_GRIDS = {1: (6,), 2: (2, 3), 3: (2, 2, 2)}
FEW_GRIDS = {1: (3,), 2: (2, 2), 3: (2, 2, 1)}  # small enough for two codes per position
FEWEST_GRIDS = {1: (2,), 2: (1, 2), 3: (2, 1, 1)}

# An axis of 1 in each place, and axes that are smaller than a kernel.
NARROW_GRIDS: dict[int, list[tuple[int, ...]]] = {
    1: [(1,), (2,)],
    2: [(1, 5), (4, 1), (2, 2)],
    3: [(1, 4, 5), (3, 1, 5), (3, 4, 1), (2, 2, 2)],
}
# Long along each axis in turn, so that what a few layers can see ends within.
LONG_GRIDS: dict[int, list[tuple[int, ...]]] = {
    1: [(23,)],
    2: [(9, 2), (2, 13)],
    3: [(7, 1, 2), (2, 8, 2), (2, 2, 11)],
}


def check_rank(rank: int) -> None:
    """Raise `ValueError` for a rank on whose grids no law can be checked."""
    if rank not in GRIDS:
        raise ValueError(f"laws are checked on grids of rank 1, 2 or 3, got rank {rank!r}")


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal to the bit."""
    return [name for name in one if not torch.equal(one[name], other[name])]


def share(one: Tensor, other: Tensor) -> str:
    """How many numbers of two tensors are not equal, in words.

    >>> share(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4]))
    '1 of 3'
    """
    return f"{int((one != other).sum())} of {one.numel()}"


def require_equal(one: nn.Module, other: nn.Module, what: str) -> None:
    """Raise `AssertionError` naming what differs in the states of two modules."""
    changed = differing(one.state_dict(), other.state_dict())
    assert not changed, f"{what} {', '.join(changed)}"
