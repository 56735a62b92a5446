"""From logits to the whole numbers that an entropy coder divides its interval by."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.entropy.elementary import exp

TOTAL = 2**24  # of the frequencies of all codes: the precision that constriction works in


def frequencies(logits: Tensor) -> Tensor:
    """Frequencies `[..., K]`, whole numbers of at least 1 in float64 that add up to 2**24, for
    logits `[..., K]` in float64. The same logits give the same frequencies on every machine.

    A code is told with log2(2**24 / frequency) bits, so with 24 at most.

    >>> frequencies(torch.tensor([0.0, 0.0, -100.0], dtype=torch.float64)).tolist()
    [8388608.0, 8388607.0, 1.0]

    Raises:
        ValueError: a logit is not finite.
    """
    if not torch.isfinite(logits).all():
        raise ValueError("the prior gives logits that are NaN or infinite")
    free = TOTAL - logits.shape[-1]  # beyond the 1 of each code
    weights = exp(logits - logits.amax(dim=-1, keepdim=True)).mul_(2**30).floor_()
    share = (weights * (free / weights.sum(dim=-1, keepdim=True))).floor_()
    rest = free - share.sum(dim=-1, keepdim=True)  # all sums here are of whole numbers, so exact
    return share.scatter_add_(-1, share.argmax(dim=-1, keepdim=True), rest).add_(1)
