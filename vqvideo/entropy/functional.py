"""Operations that sum over many terms, with the same bits on every machine.

The order in which a library adds doubles, the number of partial sums and the use of fused
multiply-adds depend on the machine, its threads and the shape of the batch, and each order rounds
differently. If every partial sum is exactly representable, nothing is rounded. So inputs are first
rounded to integer multiples of a fixed power of two: factors of a product to 2**-14 each, terms of
a sum to 2**-24. All partial sums are then integer multiples of 2**-28 or 2**-24. Below 2**53 times
that, which is checked, doubles represent them exactly, the order of summation does not matter, and
the fastest library can be used.

Sums of few terms are computed one by one, in a fixed order, and need no rounding.

All functions take and return float64.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.entropy.elementary import exp, sqrt

FACTOR_FRACTION_BITS = 14  # bits after the binary point of each factor in a sum of products
TERM_FRACTION_BITS = 24  # bits after the binary point of each term in a sum of single terms
MAX_SEQUENTIAL_TERMS = 4  # maximum number of terms that are added one by one


def round_to_bits(x: Tensor, bits: int = FACTOR_FRACTION_BITS) -> Tensor:
    """Round to the nearest integer multiple of 2**-bits, ties to even.

    >>> round_to_bits(torch.tensor([0.3, -0.75], dtype=torch.float64), bits=1).tolist()
    [0.5, -1.0]
    """
    if x.dtype != torch.float64:
        raise ValueError(f"exact sums require float64, got {x.dtype}")
    shift = 1.5 * 2.0 ** (52 - bits)  # at this magnitude a double has this many fraction bits
    return (x + shift).sub_(shift)


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Return the matrix product `x @ weight`."""
    if x.ndim > 1 and weight.ndim > 1 and x.shape[-1] <= MAX_SEQUENTIAL_TERMS:
        return _matmul_sequentially(x, weight)
    x, weight = round_to_bits(x), round_to_bits(weight)
    _check_exact(x.shape[-1], 2 * FACTOR_FRACTION_BITS, _max_abs(x), _max_abs(weight))
    return x @ weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `torch.nn.functional.linear`."""
    result = matmul(x, weight.T)
    return result if bias is None else result + bias


def addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Compute `torch.addmm` or `torch.baddbmm`."""
    return bias + matmul(x, weight)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `torch.nn.functional.conv1d`, `conv2d` or `conv3d`, with stride 1 and one group.

    It computes one matrix product per kernel tap: a library might use a Fourier or Winograd
    transform, which rounds.
    """
    rank = weight.ndim - 2
    if _expand_to_rank(stride, rank) != [1] * rank or groups != 1:
        raise ValueError(
            f"exact convolutions require a stride of 1 and one group, got {stride} and {groups}"
        )
    dilations = _expand_to_rank(dilation, rank)
    x = F.pad(x, [side for pad in reversed(_expand_to_rank(padding, rank)) for side in (pad, pad)])
    x, weight = round_to_bits(x).movedim(1, -1), round_to_bits(weight)
    _check_exact(weight[0].numel(), 2 * FACTOR_FRACTION_BITS, _max_abs(x), _max_abs(weight))
    kernel_size = weight.shape[2:]
    sizes = [x.shape[1 + i] - dilations[i] * (kernel_size[i] - 1) for i in range(rank)]
    result = x.new_zeros(len(x), *sizes, len(weight))
    matrices = weight.flatten(2).permute(2, 1, 0).contiguous()
    for tap, matrix in zip(itertools.product(*map(range, kernel_size)), matrices, strict=True):
        shifted = x
        for axis, (index, step, size) in enumerate(zip(tap, dilations, sizes, strict=True)):
            shifted = shifted.narrow(1 + axis, index * step, size)
        result += shifted @ matrix
    return (result if bias is None else result + bias).movedim(-1, 1)


def reduce_sum(
    x: Tensor, dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> Tensor:
    """Compute `torch.sum`."""
    if not x.is_floating_point():
        return x.sum(dim=dim, keepdim=keepdim)
    x = round_to_bits(x, TERM_FRACTION_BITS)
    result = x.sum(dim=dim, keepdim=keepdim)
    _check_exact(x.numel() // max(result.numel(), 1), TERM_FRACTION_BITS, _max_abs(x))
    return result


def softmax(x: Tensor, dim: int) -> Tensor:
    """Compute `torch.softmax`."""
    weights = exp(x - x.amax(dim=dim, keepdim=True))
    return weights / reduce_sum(weights, dim, keepdim=True)


def layer_norm(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `torch.nn.functional.layer_norm` over the last axis."""
    if len(normalized_shape) != 1:
        raise ValueError(
            f"exact layer_norm requires one normalized axis, got shape {normalized_shape}"
        )
    width = x.shape[-1]
    centered = x - reduce_sum(x, -1, keepdim=True) / width
    variance = reduce_sum(centered * centered, -1, keepdim=True) / width
    result = centered / sqrt(variance + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Compute `torch.nn.functional.scaled_dot_product_attention`, with a bool mask."""
    if dropout_p:
        raise ValueError(f"exact attention requires dropout_p=0, got {dropout_p}")
    query, key, value = round_to_bits(query), round_to_bits(key), round_to_bits(value)
    # Both factors come from the batch: one item must not decide whether another passes the check.
    max_value = max(_max_abs(query), _max_abs(key))
    _check_exact(query.shape[-1], 2 * FACTOR_FRACTION_BITS, max_value, max_value)
    _check_exact(key.shape[-2], 2 * FACTOR_FRACTION_BITS, 1.0, _max_abs(value))
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        if attn_mask.dtype != torch.bool:
            raise ValueError(f"attn_mask must be bool, got {attn_mask.dtype}")
        scores = scores.masked_fill(~attn_mask, -math.inf)
    return round_to_bits(softmax(scores, -1)) @ value


def _matmul_sequentially(x: Tensor, weight: Tensor) -> Tensor:
    """Return the matrix product, adding the few terms of each sum one by one."""
    result = x[..., :1] * weight[..., :1, :]
    for index in range(1, x.shape[-1]):
        result = result + x[..., index : index + 1] * weight[..., index : index + 1, :]
    return result


def _max_abs(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0


def _check_exact(terms: int, bits: int, *bounds: float) -> None:
    """Raise `ValueError` unless a sum of products is exact.

    Args:
        terms: number of products in the sum.
        bits: each product is an integer multiple of 2**-bits.
        bounds: maximum absolute value of each factor.
    """
    if not terms * math.prod(bounds) < 2.0 ** (53 - bits):
        limits = " and ".join(f"{bound:.3g}" for bound in bounds)
        raise ValueError(
            f"numbers in this prior are too large for exact arithmetic: a sum of {terms} products "
            f"of numbers up to {limits} may reach 2**{53 - bits}"
        )


def _expand_to_rank(value: int | tuple[int, ...], rank: int) -> list[int]:
    return [value] * rank if isinstance(value, int) else list(value)
