"""The order in which training sees its data: fixed by a seed, and to be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BatchOrder(Sampler[list[int]]):
    """Batches of indices without end: pass after pass, each in an order of its own.

    The order of a pass depends on the seed and the number of the pass alone. A run that was
    interrupted goes on bit for bit by starting at the number of batches it has trained on;
    whatever worker processes had read ahead is read again. Items that fill no batch are left
    out, other ones in every pass.

    Args:
        length: of the data set.
        batch_size: indices in a batch.
        seed: any integer.
        parts: batches that make up one step of training, over all its processes. They are a large
            batch cut up, so that the order does not depend on how it is cut.
        start: batches to leave out, counted from the beginning of the first pass.

    Raises:
        ValueError: a batch size or start that makes no sense.

    >>> from itertools import islice
    >>> whole = list(islice(BatchOrder(5, batch_size=2, seed=0), 4))
    >>> whole[3:] == list(islice(BatchOrder(5, batch_size=2, seed=0, start=3), 1))
    True
    """

    drop_last = True  # what accelerate asks when it deals batches out to processes

    def __init__(
        self, length: int, *, batch_size: int, seed: int, start: int = 0, parts: int = 1
    ) -> None:
        if batch_size < 1 or parts < 1 or batch_size * parts > length:
            in_all = f" ({batch_size * parts} in all {parts} parts of a step)" if parts > 1 else ""
            raise ValueError(f"batch_size must be from 1 to {length}, got {batch_size}{in_all}")
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.length, self.batch_size, self.seed, self.start = length, batch_size, seed, start
        self.parts = parts

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch_size
        per_pass = self.length // (size * self.parts) * self.parts
        number, first = divmod(self.start, per_pass)
        while True:
            order = np.random.default_rng([self.seed % 2**64, number]).permutation(self.length)
            for batch in range(first, per_pass):
                yield order[batch * size : (batch + 1) * size].tolist()
            number, first = number + 1, 0
