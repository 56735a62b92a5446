"""Metrics of reconstructions, codebooks and likelihoods.

Pure functions; their names contain the unit, except for standard names of metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

MAX_PSNR_DB = 100.0  # clip value for means: the PSNR of an exact reconstruction is infinite
SSIM_MIN_SIZE = 6  # pixels: the SSIM window of 11 needs a reflection padding of 5


def psnr_db(x: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels of data in [-1, 1] (peak-to-peak 2).

    >>> round(psnr_db(torch.zeros(4), torch.full((4,), 0.2)), 2)
    20.0
    """
    return psnr_db_from_mse((x.float() - reference.float()).square().mean().item())


def psnr_db_from_mse(mse: float) -> float:
    """Return the PSNR in decibels for a mean squared error of data in [-1, 1].

    >>> round(psnr_db_from_mse(0.04), 2)
    20.0
    """
    if mse == 0 or math.isinf(mse):
        return -math.inf if mse else math.inf
    return 10 * math.log10(4 / mse)


def build_ssim() -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that computes the SSIM `[n]`, at most 1, of images `[n, c, h, w]` in
    [-1, 1] and their references (Wang et al. 2004), h and w at least `SSIM_MIN_SIZE`.

    Raises:
        ImportError: torchmetrics is missing (extra `report`); the message says how to install it.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as cause:
        raise ImportError("the SSIM needs torchmetrics: pip install 'vqvideo[report]'") from cause

    def ssim(x: Tensor, reference: Tensor) -> Tensor:
        value = structural_similarity_index_measure(x, reference, reduction="none", data_range=2.0)
        assert isinstance(value, Tensor)  # a tuple only with other options
        return value

    return ssim


def code_histogram(codes: Tensor, codebook_size: int) -> Tensor:
    """Return the number of occurrences of each code, int64 `[K]`."""
    return torch.bincount(codes.flatten(), minlength=codebook_size)


def perplexity(counts: Tensor) -> Tensor:
    """Return the effective number of codes in use: exp of the entropy of a histogram `[K]`.

    A scalar in [1, K]. K means that all codes are equally frequent; 1, a single code (or none).

    >>> perplexity(torch.tensor([2, 2, 0, 0])).item()
    2.0
    """
    return entropy_nats(counts).exp()


def entropy_nats(counts: Tensor) -> Tensor:
    """Return the entropy of a histogram `[K]` in nats per code, a baseline for priors."""
    probs = counts.float() / counts.sum().clamp(min=1)
    entropy: Tensor = torch.special.entr(probs).sum()
    return entropy


def codebook_usage(counts: Tensor) -> float:
    """Return the share of codebook entries that occur at least once, in [0, 1].

    >>> codebook_usage(torch.tensor([2, 2, 0, 0]))
    0.5
    """
    return (counts > 0).float().mean().item()


def bits_per_dim(nats: Tensor, num_dims: int) -> Tensor:
    """Convert a negative log-likelihood in nats per item to bits per data dimension.

    >>> bits_per_dim(torch.tensor(math.log(256.0) * 10), num_dims=10).item()
    8.0
    """
    return nats / (num_dims * math.log(2))


def code_bits(num_codes: int, codebook_size: int) -> float:
    """Return the bits of N codes without entropy coding: N log2 K."""
    return num_codes * math.log2(codebook_size)


def compression_ratio(data_bits: float, bits: float) -> float | None:
    """Return the ratio of the bits of the data to `bits`; None if `bits` is 0.

    The paper's 42.6 (section 4.1): 128 x 128 RGB images of bytes, 32 x 32 codes, 512 entries.

    >>> round(compression_ratio(128 * 128 * 3 * 8, code_bits(32 * 32, 512)), 2)
    42.67
    """
    return data_bits / bits if bits > 0 else None


class MeanEstimate(NamedTuple):
    """A mean with its confidence interval.

    Attributes:
        mean: mean of the values.
        ci95: bounds of the 95 % confidence interval of the mean; None for a single value.
    """

    mean: float
    ci95: tuple[float, float] | None


def estimate_mean(values: Sequence[float]) -> MeanEstimate:
    """Return the mean of independent values and its 95 % confidence interval, assuming normality.

    The half-width is t s / sqrt(n), with the sample standard deviation s and Student's quantile t.

    >>> mean, (low, high) = estimate_mean([1.0, 1.0, 4.0, 4.0])
    >>> mean, round(high - mean, 4)
    (2.5, 2.7561)
    """
    x = torch.tensor(values, dtype=torch.float64)
    mean = x.mean().item()
    if len(values) < 2:
        return MeanEstimate(mean, None)
    margin = student_t_quantile(len(values) - 1) * x.std().item() / math.sqrt(len(values))
    return MeanEstimate(mean, (mean - margin, mean + margin))


@cache
def student_t_quantile(df: int) -> float:
    """Return t such that Student's distribution lies in [-t, t] with a probability of 95 %.

    >>> [round(student_t_quantile(df), 3) for df in (1, 2, 9, 1000)]
    [12.706, 4.303, 2.262, 1.962]
    """
    low, high = 0.0, math.pi / 2  # bounds of the angle atan(t / sqrt(df))
    for _ in range(50):  # bisection to float precision
        angle = (low + high) / 2
        low, high = (angle, high) if _student_t_probability(angle, df) < 0.95 else (low, angle)
    return math.sqrt(df) * math.tan(low)


def _student_t_probability(angle: float, df: int) -> float:
    """Return the probability of [-t, t] for t = sqrt(df) tan(angle).

    It is a finite sum for integer degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and
    26.7.4).
    """
    is_odd = df % 2
    term = math.cos(angle) if is_odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + is_odd, df - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total
