"""The gradient estimator of the paper, section 3.2: what reaches z_q reaches z_e unchanged.

Written as autograd functions rather than `z_e + (z_q - z_e).detach()`: z_q keeps its bits, and a
training step passes over the vectors less often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_ONCE = 2048


class StraightThrough(torch.autograd.Function):
    """`apply(z, z_q)` is z_q itself, with the gradient of z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_q: Tensor) -> Tensor:
        """z_q as it is."""
        ctx.mark_dirty(z_q)  # so that it is no view, and whoever gets it may write to it
        return z_q

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient that reached z_q, for z."""
        return gradients[0], None


class Commitment(torch.autograd.Function):
    """`apply(vectors, nearest, counted)`: z_q as above, and the commitment loss with it.

    The loss is the mean of (vectors - nearest)^2 over the rows where `counted` (bool `[n]`, None
    for all) is true; 0 where there is none. One function for both, since their gradients add up
    in one pass.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, nearest: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """z_q and the loss."""
        rows = len(vectors) if counted is None else int(counted.sum())
        ctx.number = max(rows * vectors.shape[1], 1)
        ctx.mark_dirty(nearest)
        if ctx.needs_input_grad[0]:
            difference = _difference(vectors, nearest, counted, slice(None))
            ctx.save_for_backward(difference)
            return nearest, _square(difference) / ctx.number
        total = vectors.new_zeros(())
        for start in range(0, len(vectors), ROWS_AT_ONCE):  # no copy of all vectors
            chunk = slice(start, start + ROWS_AT_ONCE)
            total += _square(_difference(vectors, nearest, counted, chunk))
        return nearest, total / ctx.number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Of the vectors: that of z_q, and that of the loss."""
        of_z_q, of_loss = gradients
        (difference,) = ctx.saved_tensors
        return torch.addcmul(of_z_q, difference, of_loss * (2 / ctx.number)), None, None


def _difference(vectors: Tensor, nearest: Tensor, counted: Tensor | None, rows: slice) -> Tensor:
    difference = vectors[rows] - nearest[rows]
    if counted is not None:
        difference[~counted[rows]] = 0
    return difference


def _square(vectors: Tensor) -> Tensor:
    """Sum of squares; added up row by row first, which is precise."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return length.square().sum()
