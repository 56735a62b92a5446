"""The straight-through estimator (paper, section 3.2): copies the gradient of z_q to z_e.

It is implemented with autograd functions and not as `z_e + (z_q - z_e).detach()`: z_q is exact,
and a training step needs fewer passes over the vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_CHUNK_ROWS = 2048


class StraightThrough(torch.autograd.Function):
    """`apply(z, z_q)` returns z_q and passes its gradient to z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_q: Tensor) -> Tensor:
        """Return z_q unchanged."""
        ctx.mark_dirty(z_q)  # so that the output is not a view and may be modified in place
        return z_q

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of z_q as that of z."""
        return gradients[0], None


class CommitmentLoss(torch.autograd.Function):
    """`apply(vectors, nearest, mask)` returns the straight-through z_q and the commitment loss.

    The loss is the mean of (vectors - nearest)^2 over the rows where `mask` (bool `[n]`, None
    for all) is true, or 0 if there are none. One function computes both, so that their gradients
    are added in one pass.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, nearest: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return z_q and the commitment loss."""
        rows = len(vectors) if mask is None else int(mask.sum())
        ctx.num_elements = max(rows * vectors.shape[1], 1)
        ctx.mark_dirty(nearest)
        if ctx.needs_input_grad[0]:
            difference = _compute_difference(vectors, nearest, mask, slice(None))
            ctx.save_for_backward(difference)
            return nearest, _sum_squares(difference) / ctx.num_elements
        total = vectors.new_zeros(())
        for start in range(
            0, len(vectors), MAX_CHUNK_ROWS
        ):  # in chunks, to avoid a copy of all vectors
            chunk = slice(start, start + MAX_CHUNK_ROWS)
            total += _sum_squares(_compute_difference(vectors, nearest, mask, chunk))
        return nearest, total / ctx.num_elements

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the vectors: that of z_q plus that of the loss."""
        grad_z_q, grad_loss = gradients
        (difference,) = ctx.saved_tensors
        return torch.addcmul(grad_z_q, difference, grad_loss * (2 / ctx.num_elements)), None, None


def _compute_difference(
    vectors: Tensor, nearest: Tensor, mask: Tensor | None, rows: slice
) -> Tensor:
    difference = vectors[rows] - nearest[rows]
    if mask is not None:
        difference[~mask[rows]] = 0
    return difference


def _sum_squares(vectors: Tensor) -> Tensor:
    """Return the sum of squares, summed within rows first for precision."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms.square().sum()
