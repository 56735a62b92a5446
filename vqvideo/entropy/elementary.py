"""Elementary functions (exp, sigmoid, cos, ...) with the same bits on every machine.

Math libraries differ in the last bit of these functions, and so do the vector instructions of one
machine. IEEE 754 defines the exact result of a single addition, subtraction, multiplication,
division or rounding of doubles. (It also defines the square root, but torch may use a library that
deviates.) So the functions here consist of these operations only, each in a separate call: a fused
multiply-add would round once instead of twice. They are accurate to nine digits, gelu to six,
which is more than later steps keep (`vqvideo.entropy.functional`).

All functions take and return float64. Sums over many terms are in `vqvideo.entropy.functional`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal

import torch
from torch import Tensor

ONE = torch.ones((), dtype=torch.float64)

# Constants in two parts; the first has few enough bits that its integer multiples are exact.
LN_2 = 0.6931471803691238, 1.9082149292705877e-10
HALF_PI = 1.5707963267341256, 6.077100506506192e-11
INV_LN_2, INV_HALF_PI = 1.4426950408889634, 0.6366197723675814

EXP_COEFFICIENTS = [1 / math.factorial(n) for n in range(10)]
SIN_COEFFICIENTS = [(-1) ** n / math.factorial(2 * n + 1) for n in range(7)]
COS_COEFFICIENTS = [(-1) ** n / math.factorial(2 * n) for n in range(8)]
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: maximum error 1.5e-7
ERF_COEFFICIENTS = [0.0, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429]
ERF_SCALE = 0.3275911
SQRT_HALF = 0.7071067811865476


def exp(x: Tensor) -> Tensor:
    """Compute the exponential function; x is clamped to [-700, 700].

    >>> exp(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()[0]
    1.0
    """
    x = x.clamp(-700, 700)
    exponent, remainder = _reduce_range(x, LN_2, INV_LN_2)
    power_of_two = (exponent.long() + 1023 << 52).view(torch.float64)  # set the exponent bits
    return _evaluate_polynomial(remainder, EXP_COEFFICIENTS).mul_(power_of_two)


def sigmoid(x: Tensor) -> Tensor:
    """Compute the sigmoid, 1 / (1 + exp(-x))."""
    return ONE / exp(-x).add_(1)


def tanh(x: Tensor) -> Tensor:
    """Compute the hyperbolic tangent."""
    return sigmoid(2 * x).mul_(2).sub_(1)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Compute gelu: x times the standard normal CDF of x."""
    if approximate != "none":
        raise ValueError(f"exact gelu requires approximate='none', got {approximate!r}")
    return 0.5 * x * (_erf(SQRT_HALF * x) + 1)


def sqrt(x: Tensor) -> Tensor:
    """Compute the square root.

    >>> sqrt(torch.tensor([9.0, 0.25, -1.0], dtype=torch.float64)).tolist()
    [3.0, 0.5, nan]
    """
    # Halving the bits halves the exponent: a first estimate with an error of at most 6 %.
    root = ((x.view(torch.int64) >> 1) + (1023 << 51)).view(torch.float64)
    for _ in range(5):  # Newton iterations; each doubles the number of correct digits
        root = (root + x / root).mul_(0.5)
    return root.masked_fill_(x < 0, math.nan)


def cos(x: Tensor) -> Tensor:
    """Compute the cosine of an angle in radians, below a million."""
    return _shifted_sin(x, 1)


def sin(x: Tensor) -> Tensor:
    """Compute the sine of an angle in radians, below a million."""
    return _shifted_sin(x, 0)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    """Return evenly spaced numbers, including both ends; see `torch.linspace`."""
    return torch.tensor(_compute_linspace(start, end, steps), dtype=dtype, device=device)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return powers of `base` with evenly spaced exponents, computed in decimal arithmetic, which
    is the same on every machine.
    """
    context = Context(prec=40)
    powers = [
        context.power(Decimal(base), Decimal(e)) for e in _compute_linspace(start, end, steps)
    ]
    return torch.tensor([float(power) for power in powers], dtype=dtype)


def _compute_linspace(start: float, end: float, steps: int) -> list[float]:
    return [start + (end - start) * i / max(steps - 1, 1) for i in range(steps)]


def _reduce_range(x: Tensor, unit: tuple[float, float], inverse: float) -> tuple[Tensor, Tensor]:
    """Return the integer multiple of the unit that is nearest to x, and the remainder."""
    multiple = (x * inverse).round_()
    return multiple, (x - multiple * unit[0]).sub_(multiple * unit[1])


def _evaluate_polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Evaluate a polynomial by Horner's method; `coefficients[n]` is that of x**n."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result.mul_(x).add_(coefficient)
    return result


def _erf(x: Tensor) -> Tensor:
    x_abs = x.abs()
    tail = _evaluate_polynomial(ONE / (ERF_SCALE * x_abs + 1), ERF_COEFFICIENTS) * exp(
        -(x_abs * x_abs)
    )
    return (ONE - tail) * x.sign()


def _shifted_sin(x: Tensor, quarter_turns: int) -> Tensor:
    """Return the sine of x plus `quarter_turns` times pi / 2."""
    multiple, remainder = _reduce_range(x, HALF_PI, INV_HALF_PI)
    quadrant = (multiple.long() + quarter_turns) % 4
    square = remainder * remainder
    magnitude = torch.where(
        quadrant % 2 == 1,
        _evaluate_polynomial(square, COS_COEFFICIENTS),
        _evaluate_polynomial(square, SIN_COEFFICIENTS) * remainder,
    )
    return torch.where(quadrant < 2, magnitude, -magnitude)
