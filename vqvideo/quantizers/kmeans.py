"""K-means clustering for the initialization of codebooks."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.quantizers.search import nearest_codes


def kmeans(vectors: Tensor, num_clusters: int, *, num_iters: int = 10) -> Tensor:
    """Return the centres `[num_clusters, d]` found by Lloyd's algorithm.

    The first `num_clusters` vectors are the initial centres. A cluster that loses all its vectors
    keeps its centre. The result depends only on the vectors and their order.

    >>> kmeans(torch.tensor([[0.0], [9.0], [2.0], [11.0]]), 2).tolist()
    [[1.0], [10.0]]
    """
    centres = vectors[:num_clusters].clone()
    for _ in range(num_iters):
        codes = nearest_codes(vectors, centres)
        counts = torch.bincount(codes, minlength=num_clusters)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
