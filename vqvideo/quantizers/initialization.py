"""Entries of a new codebook, from vectors of a step: a sample of them, or centres of clusters."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from vqvideo.quantizers.search import nearest_codes

VECTORS_PER_CLUSTER = 16  # vectors given to k-means, per cluster
CodebookInit = Literal["data", "kmeans"]


def get_sample_size(codebook_size: int, init: CodebookInit) -> int:
    """Return the number of vectors that `build_entries` needs."""
    return codebook_size * (VECTORS_PER_CLUSTER if init == "kmeans" else 1)


def build_entries(vectors: Tensor, codebook_size: int, init: CodebookInit) -> Tensor:
    """Return entries `[codebook_size, d]` from vectors `[n, d]`, the first ones or k-means centres.

    If there are fewer vectors than entries, warn and add copies of them with noise.
    """
    missing = codebook_size - len(vectors)
    if missing > 0:
        warnings.warn(
            f"the codebook is initialized from a step of {len(vectors)} vectors for "
            f"{codebook_size} codes, so {missing} entries start as noisy copies; use "
            f"larger batches or a smaller codebook_size to initialize all of them from data",
            stacklevel=3,
        )
        vectors = torch.cat([vectors, _make_noisy_copies(vectors, missing)])
    return kmeans(vectors, codebook_size) if init == "kmeans" else vectors


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


def _make_noisy_copies(vectors: Tensor, num_copies: int) -> Tensor:
    """Return `num_copies` copies of the vectors with noise, the same on every process."""
    generator = torch.Generator().manual_seed(num_copies)
    noise = torch.randn(num_copies, vectors.shape[1], generator=generator).to(vectors)
    copies = vectors[torch.arange(num_copies, device=vectors.device) % len(vectors)]
    return copies + 0.1 * vectors.std(dim=0, correction=0) * noise
