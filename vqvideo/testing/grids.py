"""The grids that laws are checked on, and how two states are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}
TINY_GRIDS = {1: (6,), 2: (2, 3), 3: (2, 2, 2)}
FEW_GRIDS = {1: (3,), 2: (2, 2), 3: (2, 2, 1)}  # small enough for two codes per position


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal to the bit."""
    return [name for name in one if not torch.equal(one[name], other[name])]


def require_equal(one: nn.Module, other: nn.Module, what: str) -> None:
    """Raise `AssertionError` naming what differs in the states of two modules."""
    changed = differing(one.state_dict(), other.state_dict())
    assert not changed, f"{what} {', '.join(changed)}"
