"""Sums over many numbers, with the same bits on every machine.

How a library adds up many doubles - in what order, in how many parts, with or without fused
multiply-adds - depends on the machine, its threads and the shape of the batch, and each order
rounds otherwise. Nothing is rounded where every partial sum is a double. So numbers are first
rounded to whole multiples of a fixed power of two, the factors of a product to 2**-14 each, terms
to 2**-24; then all partial sums are whole multiples of 2**-28 or 2**-24, and below 2**53 times
that, which is checked, a double holds them exactly. The order no longer matters, and the fastest
library may be used.

A sum of few terms is added one by one, in a fixed order, and needs no rounding.

All take and give float64.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.entropy.elementary import exp, sqrt

FACTOR_BITS = 14  # after the binary point, of each factor of a product that is summed
TERM_BITS = 24  # of what is summed as it is
FEW = 4  # terms that are added one by one


def rounded(x: Tensor, bits: int = FACTOR_BITS) -> Tensor:
    """The nearest whole multiple of 2**-bits, to even where two are as near.

    >>> rounded(torch.tensor([0.3, -0.75], dtype=torch.float64), bits=1).tolist()
    [0.5, -1.0]
    """
    if x.dtype != torch.float64:
        raise ValueError(f"exact sums are for float64, got {x.dtype}")
    shift = 1.5 * 2.0 ** (52 - bits)  # beside it a double has just that many bits left
    return (x + shift).sub_(shift)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """The matrix product `x @ weight`."""
    if x.ndim > 1 and weight.ndim > 1 and x.shape[-1] <= FEW:
        return _few(x, weight)
    x, weight = rounded(x), rounded(weight)
    _check(x.shape[-1], 2 * FACTOR_BITS, _largest(x), _largest(weight))
    return x @ weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`."""
    result = product(x, weight.T)
    return result if bias is None else result + bias


def added_product(added: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """As `torch.addmm` and `torch.baddbmm`."""
    return added + product(x, weight)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv3d` and its like, for a stride of 1 and one group.

    A product for each tap of the kernel: a library might do a convolution by way of a Fourier or
    a Winograd transform, which rounds.
    """
    rank = weight.ndim - 2
    if _each(stride, rank) != [1] * rank or groups != 1:
        raise ValueError(
            f"convolutions have an exact form for a stride of 1 and one group, "
            f"got {stride} and {groups}"
        )
    steps = _each(dilation, rank)
    x = F.pad(x, [side for each in reversed(_each(padding, rank)) for side in (each, each)])
    x, weight = rounded(x).movedim(1, -1), rounded(weight)
    _check(weight[0].numel(), 2 * FACTOR_BITS, _largest(x), _largest(weight))
    kernel = weight.shape[2:]
    sizes = [x.shape[1 + i] - steps[i] * (kernel[i] - 1) for i in range(rank)]
    result = x.new_zeros(len(x), *sizes, len(weight))
    matrices = weight.flatten(2).permute(2, 1, 0).contiguous()
    for tap, matrix in zip(itertools.product(*map(range, kernel)), matrices, strict=True):
        seen = x
        for axis, (index, step, size) in enumerate(zip(tap, steps, sizes, strict=True)):
            seen = seen.narrow(1 + axis, index * step, size)
        result += seen @ matrix
    return (result if bias is None else result + bias).movedim(-1, 1)


def total(x: Tensor, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Tensor:
    """As `torch.sum`."""
    if not x.is_floating_point():
        return x.sum(dim=dim, keepdim=keepdim)
    x = rounded(x, TERM_BITS)
    result = x.sum(dim=dim, keepdim=keepdim)
    _check(x.numel() // max(result.numel(), 1), TERM_BITS, _largest(x))
    return result


def softmax(x: Tensor, dim: int) -> Tensor:
    """As `torch.softmax`."""
    weights = exp(x - x.amax(dim=dim, keepdim=True))
    return weights / total(weights, dim, keepdim=True)


def layer_norm(
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """As `torch.nn.functional.layer_norm`, over the last axis."""
    if len(normalized_shape) != 1:
        raise ValueError(f"layer_norm has an exact form over one axis, got {normalized_shape}")
    number = x.shape[-1]
    offset = x - total(x, -1, keepdim=True) / number
    variance = total(offset * offset, -1, keepdim=True) / number
    result = offset / sqrt(variance + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """As `torch.nn.functional.scaled_dot_product_attention`, with a mask of truth values."""
    if dropout_p:
        raise ValueError(f"attention has an exact form without dropout, got {dropout_p}")
    query, key, value = rounded(query), rounded(key), rounded(value)
    # Either factor comes from the batch: an item must pass or fail whatever stands beside it.
    largest = max(_largest(query), _largest(key))
    _check(query.shape[-1], 2 * FACTOR_BITS, largest, largest)
    _check(key.shape[-2], 2 * FACTOR_BITS, 1.0, _largest(value))
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        if attn_mask.dtype != torch.bool:
            raise ValueError(f"attn_mask must hold truth values, got {attn_mask.dtype}")
        scores = scores.masked_fill(~attn_mask, -math.inf)
    return rounded(softmax(scores, -1)) @ value


def _few(x: Tensor, weight: Tensor) -> Tensor:
    """A product with few terms in each sum."""
    result = x[..., :1] * weight[..., :1, :]
    for index in range(1, x.shape[-1]):
        result = result + x[..., index : index + 1] * weight[..., index : index + 1, :]
    return result


def _largest(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0


def _check(terms: int, bits: int, *largest: float) -> None:
    """Raise `ValueError` unless sums of so many products, of numbers up to the `largest`, are exact
    where each is a whole multiple of 2**-bits.
    """
    if not terms * math.prod(largest) < 2.0 ** (53 - bits):
        sizes = " and ".join(f"{size:.3g}" for size in largest)
        raise ValueError(
            f"numbers in this prior are too large for exact arithmetic: a sum of {terms} products "
            f"of numbers up to {sizes} may reach 2**{53 - bits}"
        )


def _each(value: int | tuple[int, ...], rank: int) -> list[int]:
    return [value] * rank if isinstance(value, int) else list(value)
