"""The data of a run, in the order that its seed decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sized
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from vqvideo.data.clips import Sample
from vqvideo.data.order import BatchOrder
from vqvideo.training.task import TrainingConfig

NAMED = 8  # items of a step that an error names


class Batches:
    """Batches of a data set without end.

    Args:
        data: to be trained on.
        config: batch size, seed and so on.
        processes: that take turns, each for as many batches as it accumulates.

    Attributes:
        size: of a batch: that of the config, or what there is to fill one.
    """

    def __init__(self, data: Dataset[Sample], config: TrainingConfig, processes: int = 1) -> None:
        self.data, self.config = data, config
        self.per_step = config.accumulate * processes
        self.size = max(1, min(config.batch_size, len(self) // self.per_step))

    def __len__(self) -> int:
        """Items of the data set."""
        return len(cast(Sized, self.data))

    def loader(self, steps_done: int = 0) -> DataLoader[Sample]:
        """Those of all processes, of the steps after so many."""
        return DataLoader(
            self.data,
            batch_sampler=self._order(steps_done),
            generator=torch.Generator(),  # for the workers' seeds, else taken from the global one
            num_workers=self.config.num_workers,
        )

    def passes(self, steps: int) -> float:
        """How often so many steps see the data."""
        return steps * self.size * self.per_step / len(self)

    def names(self, step: int) -> str:
        """What data a step is on, where the data can tell; else nothing."""
        name: Callable[[int], str] | None = getattr(self.data, "name", None)
        if name is None:
            return ""
        order = itertools.islice(self._order(step - 1), self.per_step)
        items = list(itertools.chain.from_iterable(order))
        more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
        return f"{', '.join(map(name, items[:NAMED]))}{more}"

    def _order(self, steps_done: int) -> BatchOrder:
        return BatchOrder(
            len(self),
            batch_size=self.size,
            seed=self.config.seed,
            start=steps_done * self.per_step,
            parts=self.per_step,
        )
