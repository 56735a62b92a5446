"""Conversion of logits to the integer frequencies of an entropy coder."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.entropy.elementary import exp

TOTAL_FREQUENCY = 2**24  # sum of the frequencies of all codes; the precision of constriction


def logits_to_frequencies(logits: Tensor) -> Tensor:
    """Return frequencies `[..., K]` for logits `[..., K]`, both in float64.

    Frequencies are integers of at least 1 with a sum of 2**24. The same logits give the same
    frequencies on every machine. A code takes log2(2**24 / frequency) bits, so at most 24.

    >>> logits_to_frequencies(torch.tensor([0.0, 0.0, -100.0], dtype=torch.float64)).tolist()
    [8388608.0, 8388607.0, 1.0]

    Raises:
        ValueError: a logit is not finite.
    """
    if not torch.isfinite(logits).all():
        raise ValueError("logits of the prior must be finite, got values that are NaN or infinite")
    budget = TOTAL_FREQUENCY - logits.shape[-1]  # without the 1 of each code
    weights = exp(logits - logits.amax(dim=-1, keepdim=True)).mul_(2**30).floor_()
    shares = (weights * (budget / weights.sum(dim=-1, keepdim=True))).floor_()
    remainder = budget - shares.sum(dim=-1, keepdim=True)  # sums of integers, so exact
    return shares.scatter_add_(-1, shares.argmax(dim=-1, keepdim=True), remainder).add_(1)
