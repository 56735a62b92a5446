"""Codes drawn by one compiled loop, near the time that it takes to read the weights once.

A step of the causal core is a chain of small products, and calling them one by one takes longer
than working them out. Here H, the head and the choice are one function for as many positions as a
row has (`vqvideo.nets.kernels`). It works on the buffers of the step-by-step
state, so the two can take turns: where the two best scores are closer than rounding, the state
decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from torch import Tensor

from vqvideo.nets.fused import FusedVertical, array
from vqvideo.nets.kernels import F, draw
from vqvideo.sampling import Sampling

if TYPE_CHECKING:
    from vqvideo.priors.causal import CausalPriorState

TIE = 1e-4  # of two scores at temperature 1
COLDEST = 1e-30  # where every score but the best is out of reach


class Fused:
    """Draws codes for a `CausalPriorState` of one sample.

    Args:
        state: on the CPU, in float32, with a batch of 1.
    """

    name = f"fused (numba {numba.__version__})"

    def __init__(self, state: CausalPriorState) -> None:
        self.state, head, stack = state, state.head, state.net.horizontal
        self.num_codebooks = len(head.out)
        if state.net.vertical is not None:
            state.net.vertical = FusedVertical(state.net.vertical)
        _, scale, shift, eps = head.norm
        none = torch.zeros(0, 1, len(scale))
        self.history = array(stack.history[:, :, 0])
        self.weights = (
            array(stack.first),
            array(stack.left),
            array(stack.own),
            array(stack.out),
            np.array(stack.dilations),
            stack.first_reach,
            stack.reach,
        )
        self.head = (
            array(scale),
            array(shift),
            F(eps),
            array(head.mix),
            array(head.mix_bias),
            array(torch.stack(head.earlier) if head.earlier else none),
            array(torch.stack(head.out)),
            array(torch.stack(head.out_bias)),
            array(state.table),
        )

    def draw(self, noise: Tensor, sampling: Sampling, codes: Tensor) -> int:
        """Fill in `codes` `[n]`, given noise `[n, K]`, and go on behind them; returns how many.

        It ends where the row does and before a position that the state has to decide.
        """
        net, each = self.state.net, self.num_codebooks
        if self.state.here:
            return 0  # within a position
        positions = min(len(codes) // each, net.settle())
        stack = net.horizontal
        cold = sampling.temperature == 0
        sharpness = 1.0 if cold else 1 / max(sampling.temperature, COLDEST)
        drawn: int = draw(
            self.history,
            stack.place(net.column),
            array(stack.added[:, :, 0]),
            net.column - stack.added_from,
            self.weights,
            self.head,
            noise.numpy(),
            F(sharpness),
            F(0 if cold else 1),
            F(TIE * max(1.0, sharpness)),
            codes[: positions * each].numpy(),
        )
        if drawn:
            self.state.hidden = None
            net.advance(drawn)
        return drawn * each
