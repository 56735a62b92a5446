"""The order of the training data: determined by a seed, and resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from vqvideo.arguments import NUM_SEEDS, check_seed


class InfiniteBatchSampler(Sampler[list[int]]):
    """Infinite sampler of batches of indices, shuffled anew in each epoch.

    The order of an epoch depends only on the seed and the index of the epoch. An interrupted run
    resumes bit for bit if `start` is the number of batches it has trained on; data that worker
    processes had prefetched is read again. Items that do not fill a batch are dropped, different
    ones in each epoch.

    Args:
        length: number of items in the data set.
        batch_size: indices per batch.
        seed: an integer from -2**63 to 2**64 - 1.
        batches_per_step: batches per training step, over all processes. They are one large batch
            split into parts, so that the order does not depend on the split.
        start: batches to skip, counted from the beginning of the first epoch.

    Raises:
        ValueError: the batch size or `start` is out of range.

    >>> from itertools import islice
    >>> batches = list(islice(InfiniteBatchSampler(5, batch_size=2, seed=0), 4))
    >>> batches[3:] == list(islice(InfiniteBatchSampler(5, batch_size=2, seed=0, start=3), 1))
    True
    """

    drop_last = True  # read by accelerate when it distributes batches over processes

    def __init__(
        self, length: int, *, batch_size: int, seed: int, start: int = 0, batches_per_step: int = 1
    ) -> None:
        if batch_size < 1 or batches_per_step < 1 or batch_size * batches_per_step > length:
            per_step = (
                f" ({batch_size * batches_per_step} in the {batches_per_step} batches of a step)"
                if batches_per_step > 1
                else ""
            )
            raise ValueError(f"batch_size must be from 1 to {length}, got {batch_size}{per_step}")
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.length, self.batch_size, self.start = length, batch_size, start
        self.seed = check_seed(seed) % NUM_SEEDS
        self.batches_per_step = batches_per_step

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch_size
        batches_per_epoch = self.length // (size * self.batches_per_step) * self.batches_per_step
        epoch, first = divmod(self.start, batches_per_epoch)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            for batch in range(first, batches_per_epoch):
                yield order[batch * size : (batch + 1) * size].tolist()
            epoch, first = epoch + 1, 0
