"""A moving average of the weights, to be measured and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of what the parameters of a model have been, step by step.

    Buffers (a codebook, what it has counted) are no part of it: in the place of the weights the
    average works with the buffers as they are.

    Args:
        model: whose parameters are averaged.
        decay: in [0, 1), how much those before count at each step; 0 keeps no average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.num_steps = decay, 0
        self._parameters = list(model.parameters())
        self.weights = [p.detach().clone() for p in self._parameters] if decay else []

    def update(self) -> None:
        """A step was made."""
        if not self.decay:
            return
        self.num_steps += 1
        # The first steps count less, as long as there are few to average over.
        decay = min(self.decay, self.num_steps / (10 + self.num_steps))
        mix = get_ema_multi_avg_fn(decay)
        mix(self.weights, [p.detach() for p in self._parameters], self.num_steps)

    @torch.no_grad()
    def swap(self) -> None:
        """Let weights and average change places; without an average nothing happens."""
        for parameter, average in zip(self._parameters, self.weights, strict=False):
            parameter.data, average.data = average.data, parameter.data

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights, and afterwards the weights back."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Tensor]:
        """What a run needs to go on: the averages, by the number of their parameter."""
        return {str(number): each for number, each in enumerate(self.weights)}

    def load(self, state: dict[str, Tensor], num_steps: int) -> None:
        """Go on from `state()` after so many steps."""
        self.num_steps = num_steps
        for number, each in enumerate(self.weights):
            each.copy_(state[str(number)])
