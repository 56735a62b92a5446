"""Centres of clusters, for a codebook to start from."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.quantizers.search import nearest_codes


def kmeans(vectors: Tensor, number: int, *, iterations: int = 10) -> Tensor:
    """Lloyd's algorithm from the first `number` of the vectors: centres `[number, d]`.

    A cluster that loses all its vectors keeps its centre. The outcome depends on the vectors and
    their order alone.

    >>> kmeans(torch.tensor([[0.0], [9.0], [2.0], [11.0]]), 2).tolist()
    [[1.0], [10.0]]
    """
    centres = vectors[:number].clone()
    for _ in range(iterations):
        codes = nearest_codes(vectors, centres)
        counts = torch.bincount(codes, minlength=number)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
