"""The vertical stack V of the causal network in a compiled function (numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vqvideo.nets.kernels import FLOAT32, step_vertical
from vqvideo.nets.stacks import VerticalStack


class FusedVerticalStack(VerticalStack):
    """`VerticalStack` that calls a compiled function per layer, on the buffers of another stack."""

    def __init__(self, stack: VerticalStack) -> None:
        vars(self).update(vars(stack))
        self.kernel_args = [
            (
                to_numpy(rows[0]),
                to_numpy(layer.vertical.weight[:, :, 0].permute(2, 3, 1, 0).flatten(1, 2)),
                to_numpy(layer.vertical.bias),  # type: ignore[arg-type]
                to_numpy(layer.vertical_to_horizontal.weight.flatten(1).T),
                to_numpy(above[0]),
                layer.is_first,
            )
            for layer, rows, above in zip(
                stack.layers, stack.row_buffers, stack.to_horizontal, strict=True
            )
        ]
        self.empty = np.zeros((0, self.to_horizontal.shape[-1]), FLOAT32)

    def step(self, row: Tensor, time_bias: Tensor | None, cond_biases: Tensor | None) -> None:
        stream = to_numpy(row[0]).copy()
        time_arrays = (
            [self.empty] * len(self.kernel_args) if time_bias is None else to_numpy(time_bias[:, 0])
        )
        cond_arrays = (
            [self.empty] * len(self.kernel_args)
            if cond_biases is None
            else to_numpy(cond_biases[:, 0])
        )
        for layer_args, layer_time, layer_cond in zip(
            self.kernel_args, time_arrays, cond_arrays, strict=True
        ):
            step_vertical(*layer_args, layer_time, layer_cond, stream)


def to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as a NumPy array, sharing memory if it is contiguous."""
    return tensor.detach().contiguous().numpy()
