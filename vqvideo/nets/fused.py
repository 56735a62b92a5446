"""V of the causal core by a compiled function, on the buffers of `vqvideo.nets.stacks`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vqvideo.nets.kernels import F, vertical
from vqvideo.nets.stacks import Vertical


class FusedVertical(Vertical):
    """V a row at a time, a compiled function per layer, on the buffers of another."""

    def __init__(self, plain: Vertical) -> None:
        vars(self).update(vars(plain))
        self.calls = [
            (
                array(rows[0]),
                array(layer.vertical.weight[:, :, 0].permute(2, 3, 1, 0).flatten(1, 2)),
                array(layer.vertical.bias),  # type: ignore[arg-type]
                array(layer.vertical_to_horizontal.weight.flatten(1).T),
                array(above[0]),
                layer.first,
            )
            for layer, rows, above in zip(plain.layers, plain.rows, plain.above, strict=True)
        ]
        self.none = np.zeros((0, self.above.shape[-1]), F)

    def step(self, row: Tensor, past: Tensor | None, maps: Tensor | None) -> None:
        stream = array(row[0]).copy()
        given = [self.none] * len(self.calls) if past is None else array(past[:, 0])
        told = [self.none] * len(self.calls) if maps is None else array(maps[:, 0])
        for layer, from_past, from_cond in zip(self.calls, given, told, strict=True):
            vertical(*layer, from_past, from_cond, stream)


def array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's memory, where it is contiguous, else a copy."""
    return tensor.detach().contiguous().numpy()
