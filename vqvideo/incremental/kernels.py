"""Compiled functions of a sampling step: V of one layer; H of all layers, head and code choice.

They support one sample in float32 on the CPU. numba compiles each function on its first call and
caches it on disk. The cache is invalidated by the modification time of the function's own file, so
functions that call each other must all be in this file. T is not compiled: it is one large
convolution per frame, for which a convolution library is best.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import njit
from torch import Tensor

from vqvideo.incremental.stacks import VerticalStack

SAMPLER_NAME = f"fused (numba {numba.__version__})"
NJIT_OPTIONS: dict[str, Any] = {
    # Without nnan and ninf: NaN must stay NaN.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
    "cache": True,
}
FLOAT32 = np.float32
MIN_SCORE = FLOAT32(-1e30)  # lower than every score


@njit(**NJIT_OPTIONS)
def add_product(total, x, weight):  # type: ignore[no-untyped-def]
    """Add x @ weight to total, four rows at a time so that total is read and written less."""
    rows, columns = x.shape[0], total.shape[0]
    unrolled_rows = rows - rows % 4
    for i in range(0, unrolled_rows, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(columns):
            total[j] += (
                a * weight[i, j]
                + b * weight[i + 1, j]
                + c * weight[i + 2, j]
                + d * weight[i + 3, j]
            )
    for i in range(unrolled_rows, rows):
        for j in range(columns):
            total[j] += x[i] * weight[i, j]


@njit(**NJIT_OPTIONS)
def _tanh(x):  # type: ignore[no-untyped-def]
    """Return tanh as a ratio of polynomials, which vectorizes (coefficients from Eigen)."""
    x = min(max(x, FLOAT32(-9)), FLOAT32(9))
    y = x * x
    p = FLOAT32(2.00018790482477e-13) + y * FLOAT32(-2.76076847742355e-16)
    p = FLOAT32(5.12229709037114e-08) + y * (FLOAT32(-8.60467152213735e-11) + y * p)
    p = FLOAT32(4.89352455891786e-03) + y * (
        FLOAT32(6.37261928875436e-04) + y * (FLOAT32(1.48572235717979e-05) + y * p)
    )
    q = FLOAT32(1.18534705686654e-04) + y * FLOAT32(1.19825839466702e-06)
    q = FLOAT32(4.89352518554385e-03) + y * (FLOAT32(2.26843463243900e-03) + y * q)
    return x * p / q


@njit(**NJIT_OPTIONS)
def step_horizontal(history, slot, biases, weights, residual_and_skip, pre_activation, gate_output):  # type: ignore[no-untyped-def]
    """Evaluate H of all layers at one slot; write the streams to `residual_and_skip`."""
    first_weight, left_weights, self_weights, out_weights, dilations, first_radius, radius = weights
    layers, _, c = history.shape
    residual_and_skip[:] = 0
    for layer in range(layers):
        pre_activation[:] = biases[layer]
        dilation = dilations[layer]
        if layer == 0:
            for tap in range(first_radius):
                tap_input = history[0, slot - (first_radius - tap) * dilation]
                add_product(pre_activation, tap_input, first_weight[tap * c : (tap + 1) * c])
        else:
            history[layer, slot] = residual_and_skip[:c]
            for tap in range(radius):
                # Layers with a smaller radius have zero weights for the missing taps.
                tap_input = history[layer, max(0, slot - (radius - tap) * dilation)]
                add_product(
                    pre_activation, tap_input, left_weights[layer - 1, tap * c : (tap + 1) * c]
                )
            add_product(pre_activation, residual_and_skip[:c], self_weights[layer - 1])
        for j in range(c):  # the first half is doubled and the sign flipped: `build_gate_scale`
            gate_output[j] = _tanh(pre_activation[j] * FLOAT32(0.5)) * (
                FLOAT32(-0.5) - FLOAT32(0.5) * _tanh(pre_activation[c + j] * FLOAT32(0.5))
            )
        for j in range(2 * c):
            residual_and_skip[j] += out_weights[layer, c, j]
        add_product(residual_and_skip, gate_output, out_weights[layer])


@njit(**NJIT_OPTIONS)
def _add_conv1d(total, x, stride, weight):  # type: ignore[no-untyped-def]
    """Add x[i * stride : i * stride + n] @ weight to each total[i], reusing weights for 4 rows."""
    n, columns = weight.shape
    num_blocks = total.shape[0] // 4 * (n % 4 == 0)
    for i in range(0, 4 * num_blocks, 4):
        t0, t1, t2, t3 = total[i], total[i + 1], total[i + 2], total[i + 3]
        x0, x1 = x[i * stride :], x[(i + 1) * stride :]
        x2, x3 = x[(i + 2) * stride :], x[(i + 3) * stride :]
        for k in range(0, n, 4):
            a0, a1, a2, a3 = x0[k], x0[k + 1], x0[k + 2], x0[k + 3]
            b0, b1, b2, b3 = x1[k], x1[k + 1], x1[k + 2], x1[k + 3]
            c0, c1, c2, c3 = x2[k], x2[k + 1], x2[k + 2], x2[k + 3]
            d0, d1, d2, d3 = x3[k], x3[k + 1], x3[k + 2], x3[k + 3]
            for j in range(columns):
                p, q = weight[k, j], weight[k + 1, j]
                r, s = weight[k + 2, j], weight[k + 3, j]
                t0[j] += a0 * p + a1 * q + a2 * r + a3 * s
                t1[j] += b0 * p + b1 * q + b2 * r + b3 * s
                t2[j] += c0 * p + c1 * q + c2 * r + c3 * s
                t3[j] += d0 * p + d1 * q + d2 * r + d3 * s
    for i in range(4 * num_blocks, total.shape[0]):
        add_product(total[i], x[i * stride : i * stride + n], weight)


@njit(**NJIT_OPTIONS)
def step_vertical(rows, weight, bias, out_weight, out, is_first, time_bias, cond_biases, stream):  # type: ignore[no-untyped-def]
    """Evaluate V of one layer on the row `stream` `[w, c]`; replace it by the layer's output."""
    height, padded, c = rows.shape
    width, radius = stream.shape[0], height - 1
    for i in range(radius):
        rows[i] = rows[i + 1]
    rows[radius, radius : radius + width] = stream
    pre = np.empty((width, 2 * c), FLOAT32)
    for i in range(width):
        pre[i] = bias
        if time_bias.shape[0]:
            pre[i] += time_bias[i]
    for i in range(height):
        _add_conv1d(pre, rows[i].reshape(padded * c), c, weight[i])
    out[:] = 0
    _add_conv1d(out, pre.reshape(width * 2 * c), 2 * c, out_weight)
    for i in range(width):
        if cond_biases.shape[0]:
            pre[i] += cond_biases[i if cond_biases.shape[0] > 1 else 0]
        for j in range(c):
            gated = _tanh(pre[i, j]) * (
                FLOAT32(0.5) + FLOAT32(0.5) * _tanh(pre[i, c + j] * FLOAT32(0.5))
            )
            stream[i, j] = gated if is_first else stream[i, j] + gated


@njit(**NJIT_OPTIONS)
def _compute_hidden(features, head, normed, hidden):  # type: ignore[no-untyped-def]
    """Compute the hidden features of the head: layer norm, ReLU, linear."""
    scale, shift, eps, weight, bias = head[:5]
    c = features.shape[0]
    mean = FLOAT32(0)
    for j in range(c):
        mean += features[j]
    mean /= FLOAT32(c)
    variance = FLOAT32(0)
    for j in range(c):
        variance += (features[j] - mean) ** 2
    factor = FLOAT32(1) / np.sqrt(variance / FLOAT32(c) + eps)
    for j in range(c):
        normed[j] = max((features[j] - mean) * factor * scale[j] + shift[j], FLOAT32(0))
    hidden[:] = bias
    add_product(hidden, normed, weight)


@njit(**NJIT_OPTIONS)
def sample_codes(  # type: ignore[no-untyped-def]
    history,
    slot,
    biases,
    column,
    weights,
    head,
    noise,
    inverse_temperature,
    noise_scale,
    tie_margin,
    codes,
):
    """Sample codes position by position and return the number of positions sampled.

    See `vqvideo.incremental.state.NumbaSampler.sample`.
    """
    code_embeddings, out_weight, out_bias, embedding_weight = head[5:]
    c, (num_codebooks, size) = history.shape[2], out_bias.shape
    residual_and_skip, pre_activation = np.empty(2 * c, FLOAT32), np.empty(2 * c, FLOAT32)
    gate_output, normed = np.empty(c, FLOAT32), np.empty(c, FLOAT32)
    hidden, score = np.empty(c, FLOAT32), np.empty(size, FLOAT32)
    for position in range(codes.shape[0] // num_codebooks):
        position_slot = slot + position
        position_biases = biases[column + position if biases.shape[0] > 1 else 0]
        buffers = residual_and_skip, pre_activation, gate_output
        step_horizontal(history, position_slot, position_biases, weights, *buffers)
        _compute_hidden(residual_and_skip[c:], head, normed, hidden)
        history[0, position_slot] = 0
        for codebook in range(num_codebooks):
            index = position * num_codebooks + codebook
            for j in range(c):
                normed[j] = max(hidden[j], FLOAT32(0))
            score[:] = out_bias[codebook]
            add_product(score, normed, out_weight[codebook])
            code, best, second = 0, MIN_SCORE, MIN_SCORE
            for k in range(size):
                value = score[k] * inverse_temperature + noise[index, k] * noise_scale
                if value > best:
                    code, best, second = k, value, best
                elif value > second:
                    second = value
                elif not value <= second:  # NaN: the step-by-step state handles it
                    return position
            if best - second < tie_margin:
                return position
            codes[index] = code
            for j in range(c):
                history[0, position_slot, j] += embedding_weight[codebook * size + code, j]
                if codebook + 1 < num_codebooks:
                    hidden[j] += code_embeddings[codebook, code, j]
    return codes.shape[0] // num_codebooks


class FusedVerticalStack(VerticalStack):
    """`VerticalStack` that calls a compiled function per layer, on the buffers of another stack."""

    def __init__(self, stack: VerticalStack) -> None:
        vars(self).update(vars(stack))
        self.kernel_args = []
        for index, layer in enumerate(stack.layers):
            weight = layer.vertical.weight[:, :, 0].permute(2, 3, 1, 0).flatten(1, 2)
            bias, out_weight = layer.vertical.bias, layer.vertical_to_horizontal.weight.flatten(1).T
            weights = to_numpy(weight), to_numpy(bias), to_numpy(out_weight)  # type: ignore[arg-type]
            rows, above = stack.row_buffers[index][0], stack.to_horizontal[index, 0]
            self.kernel_args.append((to_numpy(rows), *weights, to_numpy(above), layer.is_first))
        self.empty = np.zeros((len(stack.layers), 0, self.to_horizontal.shape[-1]), FLOAT32)

    def step(self, row: Tensor, time_bias: Tensor | None, cond_biases: Tensor | None) -> None:
        stream = to_numpy(row[0]).copy()
        time_arrays = self.empty if time_bias is None else to_numpy(time_bias[:, 0])
        cond_arrays = self.empty if cond_biases is None else to_numpy(cond_biases[:, 0])
        for args, *biases in zip(self.kernel_args, time_arrays, cond_arrays, strict=True):
            step_vertical(*args, *biases, stream)


def to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as a NumPy array, sharing memory if it is contiguous."""
    return tensor.detach().contiguous().numpy()
