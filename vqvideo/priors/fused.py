"""Sampling in one compiled loop, close to the time needed to read the weights once.

A step of the causal network is a chain of small matrix products, and the overhead of the calls
exceeds the time of the computation. Here the horizontal stack, the head and the choice of a code
are one function that samples up to a whole row (`vqvideo.nets.kernels`). It shares its buffers with
the step-by-step state, so the two can alternate: where the two highest scores are closer than the
rounding error, the step-by-step state chooses the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from torch import Tensor

from vqvideo.nets.fused import FusedVerticalStack, to_numpy
from vqvideo.nets.kernels import FLOAT32, sample_codes
from vqvideo.sampling import SamplingParams

if TYPE_CHECKING:
    from vqvideo.priors.causal import CausalPriorState

TIE_TOLERANCE = 1e-4  # difference of two scores at temperature 1
MIN_TEMPERATURE = 1e-30  # at this temperature only the highest score can win


class NumbaSampler:
    """Sampler of codes for a `CausalPriorState` with a batch of 1.

    Args:
        state: state on the CPU, in float32, with a batch of 1.
    """

    name = f"fused (numba {numba.__version__})"

    def __init__(self, state: CausalPriorState) -> None:
        self.state, head, stack = state, state.head, state.net.horizontal
        self.num_codebooks = len(head.out)
        if state.net.vertical is not None:
            state.net.vertical = FusedVerticalStack(state.net.vertical)
        _, scale, shift, eps = head.norm
        no_embeddings = torch.zeros(0, 1, len(scale))
        self.history = to_numpy(stack.history[:, :, 0])
        self.weights = (
            to_numpy(stack.first_weight),
            to_numpy(stack.left_weights),
            to_numpy(stack.self_weights),
            to_numpy(stack.out_weights),
            np.array(stack.dilations),
            stack.first_kernel_radius,
            stack.kernel_radius,
        )
        self.head = (
            to_numpy(scale),
            to_numpy(shift),
            FLOAT32(eps),
            to_numpy(head.hidden_weight),
            to_numpy(head.hidden_bias),
            to_numpy(torch.stack(head.code_embeddings) if head.code_embeddings else no_embeddings),
            to_numpy(torch.stack(head.out)),
            to_numpy(torch.stack(head.out_bias)),
            to_numpy(state.embedding_weight),
        )

    def sample(self, noise: Tensor, sampling: SamplingParams, codes: Tensor) -> int:
        """Sample codes into `codes` `[n]`, given noise `[n, K]`; return the number sampled.

        Sampling stops at the end of the row and before a position with a tie, which the
        step-by-step state must resolve.
        """
        net, num_codebooks = self.state.net, self.num_codebooks
        if self.state.position_codes:
            return 0  # within a position
        max_positions = min(len(codes) // num_codebooks, net.flush())
        stack = net.horizontal
        is_greedy = sampling.temperature == 0
        inverse_temperature = 1.0 if is_greedy else 1 / max(sampling.temperature, MIN_TEMPERATURE)
        num_positions: int = sample_codes(
            self.history,
            stack.get_slot(net.column),
            to_numpy(stack.row_biases[:, :, 0]),
            net.column - stack.row_biases_start,
            self.weights,
            self.head,
            noise.numpy(),
            FLOAT32(inverse_temperature),
            FLOAT32(0 if is_greedy else 1),
            FLOAT32(TIE_TOLERANCE * max(1.0, inverse_temperature)),
            codes[: max_positions * num_codebooks].numpy(),
        )
        if num_positions:
            self.state.hidden = None
            net.advance(num_positions)
        return num_positions * num_codebooks
