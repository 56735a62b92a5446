"""Figures that say how good a reconstruction, a codebook or a likelihood is.

Pure functions; the unit is in the name unless it is the field's own term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

BEST_PSNR_DB = 100.0  # where a mean is taken: data that is the original has a PSNR without end
LEAST_SIDE = 6  # pixels that SSIM needs: its window of 11 is mirrored by 5 of them at each border


def psnr_db(x: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of data in [-1, 1] (peak-to-peak 2).

    >>> round(psnr_db(torch.zeros(4), torch.full((4,), 0.2)), 2)
    20.0
    """
    return psnr_db_of_mse((x.float() - reference.float()).square().mean().item())


def psnr_db_of_mse(mse: float) -> float:
    """The same from the mean squared error of data in [-1, 1].

    >>> round(psnr_db_of_mse(0.04), 2)
    20.0
    """
    if mse == 0 or math.isinf(mse):
        return -math.inf if mse else math.inf
    return 10 * math.log10(4 / mse)


def ssim_measure() -> Callable[[Tensor, Tensor], Tensor]:
    """What measures the structural similarity `[n]`, 1 at most, of images `[n, c, h, w]` in
    [-1, 1] and their references (Wang et al. 2004), h and w at least `LEAST_SIDE`.

    Raises:
        ImportError: torchmetrics is missing (extra `report`); the message says how to install it.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as cause:
        raise ImportError(
            "the SSIM is measured with torchmetrics; pip install 'vqvideo[report]'"
        ) from cause

    def measure(x: Tensor, reference: Tensor) -> Tensor:
        found = structural_similarity_index_measure(x, reference, reduction="none", data_range=2.0)
        assert isinstance(found, Tensor)  # a pair only where one asks for more
        return found

    return measure


def code_histogram(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: int64 `[K]`."""
    return torch.bincount(codes.flatten(), minlength=codebook_size)


def perplexity(counts: Tensor) -> Tensor:
    """Effective number of codes in use: exp of the entropy of a histogram `[K]`.

    A scalar in [1, K]. K means all codes equally often; 1, a single one (or no code at all).

    >>> perplexity(torch.tensor([2, 2, 0, 0])).item()
    2.0
    """
    return entropy_nats(counts).exp()


def entropy_nats(counts: Tensor) -> Tensor:
    """Entropy of a histogram `[K]` in nats per code: what a prior must beat."""
    share = counts.float() / counts.sum().clamp(min=1)
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy


def usage(counts: Tensor) -> float:
    """Share of the codebook that occurs at least once, 0 to 1.

    >>> usage(torch.tensor([2, 2, 0, 0]))
    0.5
    """
    return (counts > 0).float().mean().item()


def bits_per_dim(nats: Tensor, num_dims: int) -> Tensor:
    """Negative log-likelihood in nats, per item, as bits per data dimension.

    >>> bits_per_dim(torch.tensor(math.log(256.0) * 10), num_dims=10).item()
    8.0
    """
    return nats / (num_dims * math.log(2))


def code_bits(num_codes: int, codebook_size: int) -> float:
    """Bits that so many codes take where nothing is known of them: N log2 K."""
    return num_codes * math.log2(codebook_size)


def compression_ratio(data_bits: float, bits: float) -> float | None:
    """How many times fewer bits there are than in the data; None where there are none.

    The paper's 42.6 (section 4.1): 128 x 128 RGB images of bytes as 32 x 32 codes of 512.

    >>> round(compression_ratio(128 * 128 * 3 * 8, code_bits(32 * 32, 512)), 2)
    42.67
    """
    return data_bits / bits if bits > 0 else None


class Mean(NamedTuple):
    """A mean of several values.

    Attributes:
        mean: of them.
        ci95: borders of the 95 % confidence interval of the mean; None for a single value.
    """

    mean: float
    ci95: tuple[float, float] | None


def mean_and_interval(values: Sequence[float]) -> Mean:
    """The mean of independent values, and its 95 % confidence interval as if they were normal:
    t s / sqrt(n) to either side, s the sample standard deviation and t Student's quantile.

    >>> mean, (low, high) = mean_and_interval([1.0, 1.0, 4.0, 4.0])
    >>> mean, round(high - mean, 4)
    (2.5, 2.7561)
    """
    each = torch.tensor(values, dtype=torch.float64)
    mean = each.mean().item()
    if len(values) < 2:
        return Mean(mean, None)
    aside = student_quantile(len(values) - 1) * each.std().item() / math.sqrt(len(values))
    return Mean(mean, (mean - aside, mean + aside))


@cache
def student_quantile(freedom: int) -> float:
    """The t that Student's distribution lies within, [-t, t], with a probability of 95 %.

    >>> [round(student_quantile(freedom), 3) for freedom in (1, 2, 9, 1000)]
    [12.706, 4.303, 2.262, 1.962]
    """
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(freedom))
    for _ in range(50):  # to the last bits of a float
        angle = (low + high) / 2
        low, high = (angle, high) if _student_within(angle, freedom) < 0.95 else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _student_within(angle: float, freedom: int) -> float:
    """The probability of [-t, t], t = sqrt(freedom) tan(angle): a finite sum for whole degrees of
    freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).
    """
    is_odd = freedom % 2
    term = math.cos(angle) if is_odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + is_odd, freedom - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total
