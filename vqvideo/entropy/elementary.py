"""exp, sigmoid, cosine and the like, with the same bits on every machine.

Mathematical libraries differ in the last bit of these functions, and so do the vector instructions
of one machine. IEEE 754 leaves no such freedom to a single sum, difference, product, quotient or
rounding of doubles. (Nor to a square root, but torch's comes from a library that takes it.) So the
functions here are made of nothing else, each operation a call of its own: two in one, as a fused
multiply-add, would be rounded once instead of twice. They are good to nine digits, gelu to six,
which is beyond what later steps keep (`vqvideo.entropy.sums`).

All take and give float64. Sums over many numbers are not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal

import torch
from torch import Tensor

ONE = torch.ones((), dtype=torch.float64)

# A constant in two parts, the first with so few digits that whole multiples of it are exact.
LN_2 = 0.6931471803691238, 1.9082149292705877e-10
HALF_PI = 1.5707963267341256, 6.077100506506192e-11
PER_LN_2, PER_HALF_PI = 1.4426950408889634, 0.6366197723675814

EXP = [1 / math.factorial(n) for n in range(10)]
SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(7)]
COS = [(-1) ** n / math.factorial(2 * n) for n in range(8)]
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: an error of 1.5e-7 at most
ERF = [0.0, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429]
ERF_SCALE = 0.3275911
SQRT_HALF = 0.7071067811865476


def exp(x: Tensor) -> Tensor:
    """Exponential function; what lies beyond -700 or 700 counts as that.

    >>> exp(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()[0]
    1.0
    """
    x = x.clamp(-700, 700)
    power, rest = _whole_multiples(x, LN_2, PER_LN_2)
    two_to_the_power = (power.long() + 1023 << 52).view(torch.float64)  # as its exponent bits
    return _polynomial(rest, EXP).mul_(two_to_the_power)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return ONE / exp(-x).add_(1)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return sigmoid(2 * x).mul_(2).sub_(1)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Each number times the share of a standard normal that lies below it."""
    if approximate != "none":
        raise ValueError(f"gelu has an exact form for approximate='none', got {approximate!r}")
    return 0.5 * x * (_erf(SQRT_HALF * x) + 1)


def sqrt(x: Tensor) -> Tensor:
    """Square root.

    >>> sqrt(torch.tensor([9.0, 0.25, -1.0], dtype=torch.float64)).tolist()
    [3.0, 0.5, nan]
    """
    root = ((x.view(torch.int64) >> 1) + (1023 << 51)).view(torch.float64)  # exponent and digits
    for _ in range(5):  # Newton's steps, from a root that is 6 % off; each doubles the digits
        root = (root + x / root).mul_(0.5)
    return root.masked_fill_(x < 0, math.nan)


def cos(x: Tensor) -> Tensor:
    """Cosine of an angle in radians, below a million."""
    return _wave(x, 1)


def sin(x: Tensor) -> Tensor:
    """Sine of an angle in radians, below a million."""
    return _wave(x, 0)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    """Numbers at equal distances, both ends among them."""
    return torch.tensor(_spaced(start, end, steps), dtype=dtype, device=device)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Powers of `base` with exponents at equal distances; in decimal arithmetic, whose powers
    depend on no machine.
    """
    context = Context(prec=40)
    powers = [context.power(Decimal(base), Decimal(e)) for e in _spaced(start, end, steps)]
    return torch.tensor([float(power) for power in powers], dtype=dtype)


def _spaced(start: float, end: float, steps: int) -> list[float]:
    return [start + (end - start) * i / max(steps - 1, 1) for i in range(steps)]


def _whole_multiples(x: Tensor, unit: tuple[float, float], per: float) -> tuple[Tensor, Tensor]:
    """How many whole units x is nearest to, and what is left of it."""
    number = (x * per).round_()
    return number, (x - number * unit[0]).sub_(number * unit[1])


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """By Horner's rule; the coefficient of x to the n is the nth."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result.mul_(x).add_(coefficient)
    return result


def _erf(x: Tensor) -> Tensor:
    size = x.abs()
    tail = _polynomial(ONE / (ERF_SCALE * size + 1), ERF) * exp(-(size * size))
    return (ONE - tail) * x.sign()


def _wave(x: Tensor, quarters: int) -> Tensor:
    """Sine of x and so many quarter turns."""
    number, rest = _whole_multiples(x, HALF_PI, PER_HALF_PI)
    quarter = (number.long() + quarters) % 4
    square = rest * rest
    odd = torch.where(quarter % 2 == 1, _polynomial(square, COS), _polynomial(square, SIN) * rest)
    return torch.where(quarter < 2, odd, -odd)
