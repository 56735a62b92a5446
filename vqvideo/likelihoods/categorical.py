"""The `categorical` and `bernoulli` likelihoods: a probability of its own for every value."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.likelihoods.base import (
    BYTES,
    LIKELIHOODS,
    Bytes,
    Likelihood,
    from_levels,
    to_levels,
    uniform_noise,
    widened,
)


@LIKELIHOODS.register("categorical")
class CategoricalLikelihood(Bytes):
    """A softmax over the 256 values of each dimension, each by itself (van den Oord et al. 2016).

    It assumes nothing about which values are near each other, needs 256 numbers for every
    dimension, and learns accordingly from much data.

    Args:
        mu_law: whether the values lie as on the mu-law scale, for sound, or evenly.

    >>> likelihood = CategoricalLikelihood()
    >>> nats = likelihood.log_prob(torch.zeros(1, 256, 1), torch.ones(1, 1, 1))
    >>> round(-nats.item(), 4)  # ln 256
    5.5452
    """

    def num_parameters(self, channels: int) -> int:
        return BYTES * channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        nats = F.cross_entropy(self._logits(parameters), self.to_levels(x), reduction="none")
        return -nats.flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self.from_levels(self._logits(parameters).argmax(dim=1))

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        logits = self._logits(parameters) / temperature
        noise = uniform_noise(logits.shape, seed, logits.device)
        return self.from_levels((logits - (-noise.log()).log()).argmax(dim=1))

    def _logits(self, parameters: Tensor) -> Tensor:
        """`[b, 256, c, *axes]`."""
        logits: Tensor = widened(parameters).unflatten(1, (BYTES, -1))
        return logits


@LIKELIHOODS.register("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Two values, -1 and 1, for pictures in black and white: `parameters` are the logits of 1.

    Gray is scored as the nearer of the two.
    """

    num_values = 2

    def num_parameters(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logits = widened(parameters)
        is_one = to_levels(x, 2).to(logits.dtype)
        nats = F.binary_cross_entropy_with_logits(logits, is_one, reduction="none")
        return -nats.flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return from_levels(parameters > 0, 2)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        noise = uniform_noise(parameters.shape, seed, parameters.device)
        return from_levels(noise < torch.sigmoid(parameters.double() / temperature), 2)
