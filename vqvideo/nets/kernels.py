"""The compiled functions of a step: V of a layer; H of all layers, the head and the choice.

For one sample in float32 on the CPU. numba compiles each when it is first called and keeps it on
disk; what it keeps is known by the date of the file a function stands in, so functions that call
each other all stand in this one. T is not among them: it is one large convolution a frame, which a
convolution library does best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},  # but what is no number stays none
    "error_model": "numpy",
    "cache": True,
}
F = np.float32
LEAST = F(-1e30)  # below every score


@njit(**OPTIONS)
def add_up(weights):  # type: ignore[no-untyped-def]
    """The sum of a flat array: about the least time in which it can be read."""
    total = F(0)
    for i in range(weights.shape[0]):
        total += weights[i]
    return total


@njit(**OPTIONS)
def add_product(total, x, weight):  # type: ignore[no-untyped-def]
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


@njit(**OPTIONS)
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
def horizontal(history, place, added, weights, total, pre, gated):  # type: ignore[no-untyped-def]
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
                add_product(pre, seen, first[tap * c : (tap + 1) * c])
        else:
            history[layer, place] = total[:c]
            for tap in range(reach):
                # A layer that looks less far has zeros for the taps it lacks.
                seen = history[layer, max(0, place - (reach - tap) * dilation)]
                add_product(pre, seen, left[layer - 1, tap * c : (tap + 1) * c])
            add_product(pre, total[:c], own[layer - 1])
        for j in range(c):  # see `doubled_tanh`: the first half stands doubled, the sign is turned
            gated[j] = _tanh(pre[j] * F(0.5)) * (F(-0.5) - F(0.5) * _tanh(pre[c + j] * F(0.5)))
        for j in range(2 * c):
            total[j] += out[layer, c, j]
        add_product(total, gated, out[layer])


@njit(**OPTIONS)
def _slide(total, x, step, weight):  # type: ignore[no-untyped-def]
    """total[i] += x[i * step : i * step + n] @ weight; a weight that is read serves four rows."""
    n, columns = weight.shape
    blocks = total.shape[0] // 4 * (n % 4 == 0)
    for i in range(0, 4 * blocks, 4):
        t0, t1, t2, t3 = total[i], total[i + 1], total[i + 2], total[i + 3]
        x0, x1 = x[i * step :], x[(i + 1) * step :]
        x2, x3 = x[(i + 2) * step :], x[(i + 3) * step :]
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
    for i in range(4 * blocks, total.shape[0]):
        add_product(total[i], x[i * step : i * step + n], weight)


@njit(**OPTIONS)
def vertical(rows, weight, bias, give, above, first, past, told, stream):  # type: ignore[no-untyped-def]
    """V of one layer on the row `stream` `[w, c]`, which becomes the next layer's."""
    height, padded, c = rows.shape
    width, reach = stream.shape[0], height - 1
    for i in range(reach):
        rows[i] = rows[i + 1]
    rows[reach, reach : reach + width] = stream
    pre = np.empty((width, 2 * c), F)
    for i in range(width):
        pre[i] = bias
        if past.shape[0]:
            pre[i] += past[i]
    for i in range(height):
        _slide(pre, rows[i].reshape(padded * c), c, weight[i])
    above[:] = 0
    _slide(above, pre.reshape(width * 2 * c), 2 * c, give)
    for i in range(width):
        if told.shape[0]:
            pre[i] += told[i if told.shape[0] > 1 else 0]
        for j in range(c):
            gated = _tanh(pre[i, j]) * (F(0.5) + F(0.5) * _tanh(pre[i, c + j] * F(0.5)))
            stream[i, j] = gated if first else stream[i, j] + gated


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
def draw(  # type: ignore[no-untyped-def]
    history, place, added, column, weights, head, noise, sharpness, loudness, tie, codes
):
    """Positions drawn, of the `codes` of whole positions; see `vqvideo.priors.fused.Fused.draw`."""
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
                elif not value <= second:  # no number: the state shall say what to make of it
                    return position
            if best - second < tie:
                return position
            codes[index] = code
            for j in range(c):
                history[0, here, j] += table[book * size + code, j]
                if book + 1 < each:
                    hidden[j] += earlier[book, code, j]
    return codes.shape[0] // each
