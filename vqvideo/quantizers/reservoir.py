"""A sample of the vectors of a step, to initialize or revive entries.

The choice of vectors depends only on the index of the step and on the positions of the vectors,
not on the split of the step into batches, the number of processes or torch's random state. So two
half batches, or two processes, give the same codebook as one full batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.distributed import all_gather_rows

MAX_BATCHES = 2**20  # batches per step and process


class VectorReservoir:
    """The first `size` vectors of a step, in a random order of positions.

    All items of a batch share the order, so vectors are sorted by (rank of the position in that
    order, batch, item). Every part of a step can be sorted and truncated by this key on its own.

    Args:
        size: largest number of vectors that will be sampled.
        seed: seed of the order; the index of the step.
        like: tensor `[..., d]` with the dtype and device of the vectors.
    """

    def __init__(self, size: int, seed: int, like: Tensor) -> None:
        self.size, self.seed = size, seed
        self.vectors = like.detach().new_empty(0, like.shape[-1])
        # rank * MAX_BATCHES + batch
        self.keys = torch.empty(0, dtype=torch.int64, device=like.device)
        self.num_batches = 0

    def add(self, vectors: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch of `vectors` `[b, n, d]`; `mask` bool `[b, n]` is false at invalid ones."""
        items, positions = vectors.shape[:2]
        order = torch.randperm(positions, generator=torch.Generator().manual_seed(self.seed))
        order = order.to(vectors.device)
        if mask is None:
            order = order[: -(-self.size // max(items, 1))]  # the rest cannot be among the first
            mask = torch.ones(items, positions, dtype=torch.bool, device=vectors.device)
        rank, item = torch.nonzero(mask[:, order].T).T[:, : self.size]
        selected, keys = vectors[item, order[rank]], rank * MAX_BATCHES + self.num_batches
        self.num_batches += 1
        if not len(self.keys):
            self.vectors, self.keys = selected, keys
        else:
            merged = torch.cat([self.vectors, selected]), torch.cat([self.keys, keys])
            self.vectors, self.keys = _take_first(*merged, self.size)

    def sample(self, num_vectors: int) -> Tensor:
        """Return up to `num_vectors` vectors `[m, d]` of the step, the same on every process.

        Every process must call it.
        """
        num_vectors = min(num_vectors, self.size)
        vectors = all_gather_rows(self.vectors[:num_vectors])
        keys = all_gather_rows(self.keys[:num_vectors])
        return _take_first(vectors, keys, num_vectors)[0]


def _take_first(vectors: Tensor, keys: Tensor, num_vectors: int) -> tuple[Tensor, Tensor]:
    order = keys.argsort(stable=True)[:num_vectors]
    return vectors[order], keys[order]
