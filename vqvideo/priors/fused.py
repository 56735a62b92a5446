"""Codes drawn by one compiled loop, near the time that it takes to read the weights once.

A step of the causal core is a chain of small products, and calling them one by one takes longer
than working them out. Here H, the head and the choice are one function, compiled by numba when it
is first called, for as many positions as a row has. T and V, which run once a frame and once a row,
stay as they are. It works on the buffers of the step-by-step state (`vqvideo.nets.stacks`), so the
two can take turns: where the two best scores are closer than rounding, the state decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numba import njit
from torch import Tensor

from vqvideo.sampling import Sampling

if TYPE_CHECKING:
    from vqvideo.priors.causal import CausalPriorState

TIE = 1e-4  # of two scores at temperature 1
OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "cache": True}
F = np.float32


class Fused:
    """Draws codes for a `CausalPriorState` of one sample.

    Args:
        state: on the CPU, in float32, with a batch of 1.
    """

    name = f"fused (numba {numba.__version__})"

    def __init__(self, state: CausalPriorState) -> None:
        self.state, head, stack = state, state.head, state.net.horizontal
        self.num_codebooks = len(head.out)
        norm = head.norm
        none = torch.zeros(0, 1, len(norm.weight))
        self.history = _array(stack.history[:, :, 0])
        self.weights = (
            _array(stack.first),
            _array(stack.left),
            _array(stack.own),
            _array(stack.out),
            np.array(stack.dilations),
            stack.first_reach,
            stack.reach,
        )
        self.head = (
            _array(norm.weight),
            _array(norm.bias),
            F(norm.eps),
            _array(head.mix),
            _array(head.mix_bias),
            _array(torch.stack(head.earlier) if head.earlier else none),
            _array(torch.stack(head.out)),
            _array(torch.stack(head.out_bias)),
            _array(state.table),
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
            _array(stack.added[:, :, 0]),
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


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


@njit(inline="always", **OPTIONS)
def _add_product(total, x, weight):  # type: ignore[no-untyped-def]
    """Total += x @ weight; four rows at a time, so that the sum is read and written less."""
    rows, columns = x.shape[0], total.shape[0]
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(columns):
            total[j] += (
                a * weight[i, j]
                + b * weight[i + 1, j]
                + c * weight[i + 2, j]
                + d * weight[i + 3, j]
            )
    for i in range(whole, rows):
        for j in range(columns):
            total[j] += x[i] * weight[i, j]


@njit(inline="always", **OPTIONS)
def _tanh(x):  # type: ignore[no-untyped-def]
    """As a ratio of polynomials, which runs on many numbers at once (Eigen's coefficients)."""
    x = min(max(x, F(-9)), F(9))
    y = x * x
    p = F(2.00018790482477e-13) + y * F(-2.76076847742355e-16)
    p = F(5.12229709037114e-08) + y * (F(-8.60467152213735e-11) + y * p)
    p = F(4.89352455891786e-03) + y * (
        F(6.37261928875436e-04) + y * (F(1.48572235717979e-05) + y * p)
    )
    q = F(1.18534705686654e-04) + y * F(1.19825839466702e-06)
    q = F(4.89352518554385e-03) + y * (F(2.26843463243900e-03) + y * q)
    return x * p / q


@njit(**OPTIONS)
def _core(history, place, added, weights, total, pre, gated):  # type: ignore[no-untyped-def]
    """H of all layers at one place; leaves the sum of residuals and that of skips in `total`."""
    first, left, own, out, dilations, first_reach, reach = weights
    layers, _, c = history.shape
    total[:] = 0
    for layer in range(layers):
        pre[:] = added[layer]
        dilation = dilations[layer]
        if layer == 0:
            for tap in range(first_reach):
                seen = history[0, place - (first_reach - tap) * dilation]
                _add_product(pre, seen, first[tap * c : (tap + 1) * c])
        else:
            history[layer, place] = total[:c]
            for tap in range(reach):
                # A layer that looks less far has zeros for the taps it lacks.
                seen = history[layer, max(0, place - (reach - tap) * dilation)]
                _add_product(pre, seen, left[layer - 1, tap * c : (tap + 1) * c])
            _add_product(pre, total[:c], own[layer - 1])
        for j in range(c):  # see `doubled_tanh`: the first half stands doubled, the sign is turned
            gated[j] = _tanh(pre[j] * F(0.5)) * (F(-0.5) - F(0.5) * _tanh(pre[c + j] * F(0.5)))
        for j in range(2 * c):
            total[j] += out[layer, c, j]
        _add_product(total, gated, out[layer])


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
    _add_product(hidden, normed, mix)


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
        _core(history, here, told, weights, total, pre, gated)
        _hidden(total[c:], head, normed, hidden)
        history[0, here] = 0
        for book in range(each):
            index = position * each + book
            for j in range(c):
                normed[j] = max(hidden[j], F(0))
            score[:] = out_bias[book]
            _add_product(score, normed, out[book])
            code, best, second = 0, F(-np.inf), F(-np.inf)
            for k in range(size):
                value = score[k] * sharpness + noise[index, k] * loudness
                if value > best:
                    code, best, second = k, value, best
                elif value > second:
                    second = value
            if not best - second >= tie:  # also where there is no best
                return position
            codes[index] = code
            for j in range(c):
                history[0, here, j] += table[book * size + code, j]
                if book + 1 < each:
                    hidden[j] += earlier[book, code, j]
    return codes.shape[0] // each
