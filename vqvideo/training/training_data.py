"""Training data of a run, in an order determined by its seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sized
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from vqvideo.data.batch_sampler import InfiniteBatchSampler
from vqvideo.data.clips import Sample
from vqvideo.training.task import TrainingConfig

MAX_ITEMS_IN_ERROR = 8  # number of items that an error message lists


class TrainingData:
    """Endless batches of a dataset.

    Args:
        data: training dataset.
        config: batch size, seed and so on.
        num_processes: number of training processes; each takes the batches of its accumulation
            steps in turn.

    Attributes:
        batch_size: the batch size of the config, or less if the dataset is too small to fill it.
    """

    def __init__(
        self, data: Dataset[Sample], config: TrainingConfig, num_processes: int = 1
    ) -> None:
        self.data, self.config = data, config
        self.batches_per_step = config.gradient_accumulation_steps * num_processes
        self.batch_size = max(1, min(config.batch_size, len(self) // self.batches_per_step))

    def __len__(self) -> int:
        """Return the number of items in the dataset."""
        return len(cast(Sized, self.data))

    def build_loader(self, steps_done: int = 0) -> DataLoader[Sample]:
        """Build a loader of the batches of all processes after `steps_done` steps."""
        return DataLoader(
            self.data,
            batch_sampler=self._build_batch_sampler(steps_done),
            generator=torch.Generator(),  # so that worker seeds leave the global generator as it is
            num_workers=self.config.num_workers,
        )

    def count_epochs(self, steps: int) -> float:
        """Return the number of epochs in a number of steps."""
        return steps * self.batch_size * self.batches_per_step / len(self)

    def describe_items(self, step: int) -> str:
        """Describe the items of a step, or return "" if the dataset has no `describe`."""
        describe: Callable[[int], str] | None = getattr(self.data, "describe", None)
        if describe is None:
            return ""
        batches = itertools.islice(self._build_batch_sampler(step - 1), self.batches_per_step)
        items = list(itertools.chain.from_iterable(batches))
        more = (
            f" and {len(items) - MAX_ITEMS_IN_ERROR} more"
            if len(items) > MAX_ITEMS_IN_ERROR
            else ""
        )
        return f"{', '.join(map(describe, items[:MAX_ITEMS_IN_ERROR]))}{more}"

    def _build_batch_sampler(self, steps_done: int) -> InfiniteBatchSampler:
        return InfiniteBatchSampler(
            len(self),
            batch_size=self.batch_size,
            seed=self.config.seed,
            start=steps_done * self.batches_per_step,
            batches_per_step=self.batches_per_step,
        )
