"""Figures that say how good a reconstruction, a codebook or a likelihood is.

Pure functions; the unit is in the name unless it is the field's own term.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
