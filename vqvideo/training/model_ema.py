"""Exponential moving average (EMA) of the weights, evaluated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ModelEMA:
    """Exponential moving average of the parameters of a model.

    Buffers (a codebook, its statistics) are not averaged: the averaged weights are used with the
    current buffers.

    Args:
        model: the model whose parameters are averaged.
        decay: decay per step, in [0, 1); 0 disables the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.num_steps = decay, 0
        self._parameters = list(model.parameters())
        self.weights = [p.detach().clone() for p in self._parameters] if decay else []

    def update(self) -> None:
        """Update the average after an optimizer step."""
        if not self.decay:
            return
        self.num_steps += 1
        # A smaller decay in the first steps, or the initial weights would dominate the average.
        decay = min(self.decay, self.num_steps / (10 + self.num_steps))
        update_average = get_ema_multi_avg_fn(decay)
        update_average(self.weights, [p.detach() for p in self._parameters], self.num_steps)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average; do nothing without an average."""
        for parameter, average in zip(self._parameters, self.weights, strict=False):
            parameter.data, average.data = average.data, parameter.data

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Use the averaged weights within the context, and restore the weights afterwards."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages, keyed by the index of their parameter."""
        return {str(index): weight for index, weight in enumerate(self.weights)}

    def load_state_dict(self, state: dict[str, Tensor], num_steps: int) -> None:
        """Restore `state_dict()` as it was after `num_steps` steps."""
        self.num_steps = num_steps
        for index, weight in enumerate(self.weights):
            weight.copy_(state[str(index)])
