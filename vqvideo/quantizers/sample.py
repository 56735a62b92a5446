"""A few of a step's vectors, to start or revive entries from.

Which vectors are drawn depends on the step's number and on where they stand, and on nothing else:
not on how the step was cut into batches, nor on the number of processes, nor on the random state
of torch. So two half batches, or two processes, give the codebook that one whole batch gives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.processes import gathered

MOST_BATCHES = 2**20  # per step and process


class Sample:
    """The first `size` vectors of a step, in a random order of positions.

    All items of a batch share the order, so vectors go by (place of the position in that order,
    batch, item). Every part of a step can be sorted by that alone, and so kept short by itself.

    Args:
        size: vectors that will be asked for at most.
        seed: of the order; the step's number.
        like: `[..., d]`, of the type and on the device that vectors will have.
    """

    def __init__(self, size: int, seed: int, like: Tensor) -> None:
        self.size, self.seed = size, seed
        self.vectors = like.detach().new_empty(0, like.shape[-1])
        # place * MOST_BATCHES + batch
        self.keys = torch.empty(0, dtype=torch.int64, device=like.device)
        self.batches = 0

    def add(self, vectors: Tensor, mask: Tensor | None = None) -> None:
        """Take in a batch: `vectors` `[b, n, d]`, `mask` bool `[b, n]` for those that count."""
        items, positions = vectors.shape[:2]
        order = torch.randperm(positions, generator=torch.Generator().manual_seed(self.seed))
        order = order.to(vectors.device)
        if mask is None:
            order = order[: -(-self.size // max(items, 1))]  # no more can be among the first
            mask = torch.ones(items, positions, dtype=torch.bool, device=vectors.device)
        place, item = torch.nonzero(mask[:, order].T).T[:, : self.size]
        chosen, keys = vectors[item, order[place]], place * MOST_BATCHES + self.batches
        self.batches += 1
        if not len(self.keys):
            self.vectors, self.keys = chosen, keys
        else:
            both = torch.cat([self.vectors, chosen]), torch.cat([self.keys, keys])
            self.vectors, self.keys = _first(*both, self.size)

    def drawn(self, number: int) -> Tensor:
        """The first `number` vectors of the whole step `[m, d]`, m at most `number`, the same on
        every process. All processes must ask.
        """
        number = min(number, self.size)
        vectors, keys = gathered(self.vectors[:number]), gathered(self.keys[:number])
        return _first(vectors, keys, number)[0]


def _first(vectors: Tensor, keys: Tensor, number: int) -> tuple[Tensor, Tensor]:
    order = keys.argsort(stable=True)[:number]
    return vectors[order], keys[order]
