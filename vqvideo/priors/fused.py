"""Codes drawn by one compiled loop, near the time that it takes to read the weights once.

A step of the causal core is a chain of small products, and calling them one by one takes longer
than working them out. Here H, the head and the choice are one function (compiled by numba when it
is first called) for as many positions as a row has. It works on the buffers of the step-by-step
state, so the two can take turns: where the two best scores are closer than rounding, the state
decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from numba import njit
from torch import Tensor

from vqvideo.nets.fused import OPTIONS, F, FusedVertical, add_product, array, horizontal
from vqvideo.sampling import Sampling

if TYPE_CHECKING:
    from vqvideo.priors.causal import CausalPriorState

TIE = 1e-4  # of two scores at temperature 1
LEAST = np.float32(-1e30)  # below every score; compiled as it is, the loop knows no infinity


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
        norm = head.norm
        none = torch.zeros(0, 1, len(norm.weight))
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
            array(norm.weight),
            array(norm.bias),
            F(norm.eps),
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
        sharpness = 1.0 if cold else 1 / sampling.temperature
        drawn: int = _draw(
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


@njit(**OPTIONS)
def _hidden(features, head, normed, hidden):  # type: ignore[no-untyped-def]
    """The head up to its hidden features: layer norm, ReLU, linear."""
    scale, shift, eps, mix, mix_bias = head[:5]
    c = features.shape[0]
    mean = F(0)
    for j in range(c):
        mean += features[j]
    mean /= F(c)
    variance = F(0)
    for j in range(c):
        variance += (features[j] - mean) ** 2
    factor = F(1) / np.sqrt(variance / F(c) + eps)
    for j in range(c):
        normed[j] = max((features[j] - mean) * factor * scale[j] + shift[j], F(0))
    hidden[:] = mix_bias
    add_product(hidden, normed, mix)


@njit(**OPTIONS)
def _draw(  # type: ignore[no-untyped-def]
    history, place, added, column, weights, head, noise, sharpness, loudness, tie, codes
):
    """Positions drawn, of the `codes` of whole positions; see `Fused.draw`."""
    earlier, out, out_bias, table = head[5:]
    c, (each, size) = history.shape[2], out_bias.shape
    total, pre = np.empty(2 * c, F), np.empty(2 * c, F)
    gated, normed, hidden, score = np.empty(c, F), np.empty(c, F), np.empty(c, F), np.empty(size, F)
    for position in range(codes.shape[0] // each):
        here = place + position
        told = added[column + position if added.shape[0] > 1 else 0]
        horizontal(history, here, told, weights, total, pre, gated)
        _hidden(total[c:], head, normed, hidden)
        history[0, here] = 0
        for book in range(each):
            index = position * each + book
            for j in range(c):
                normed[j] = max(hidden[j], F(0))
            score[:] = out_bias[book]
            add_product(score, normed, out[book])
            code, best, second = 0, LEAST, LEAST
            for k in range(size):
                value = score[k] * sharpness + noise[index, k] * loudness
                if value > best:
                    code, best, second = k, value, best
                elif value > second:
                    second = value
            if best - second < tie:
                return position
            codes[index] = code
            for j in range(c):
                history[0, here, j] += table[book * size + code, j]
                if book + 1 < each:
                    hidden[j] += earlier[book, code, j]
    return codes.shape[0] // each
