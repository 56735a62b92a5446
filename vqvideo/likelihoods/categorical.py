"""The `categorical` and `bernoulli` likelihoods: a separate probability for every value."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.likelihoods.base import (
    LIKELIHOODS,
    NUM_LEVELS,
    ByteLikelihood,
    Likelihood,
    from_levels,
    sample_uniform,
    to_levels,
    upcast,
)


@LIKELIHOODS.register("categorical")
class CategoricalLikelihood(ByteLikelihood):
    """Independent softmax over the 256 values of each dimension (van den Oord et al. 2016).

    It has no notion of distance between values and takes 256 parameters per dimension, so it needs
    much training data.

    Args:
        mu_law: whether the values are uniform on the mu-law scale, for audio, or linear.

    >>> likelihood = CategoricalLikelihood()
    >>> log_prob = likelihood.log_prob(torch.zeros(1, 256, 1), torch.ones(1, 1, 1))
    >>> round(-log_prob.item(), 4)  # ln 256
    5.5452
    """

    def num_parameters(self, channels: int) -> int:
        return NUM_LEVELS * channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        nll = F.cross_entropy(self._to_logits(parameters), self.to_levels(x), reduction="none")
        return -nll.flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self.from_levels(self._to_logits(parameters).argmax(dim=1))

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        logits = self._to_logits(parameters) / temperature
        noise = sample_uniform(logits.shape, seed, logits.device)
        return self.from_levels((logits - (-noise.log()).log()).argmax(dim=1))

    def _to_logits(self, parameters: Tensor) -> Tensor:
        """Reshape parameters to logits `[b, 256, c, *axes]`."""
        logits: Tensor = upcast(parameters).unflatten(1, (NUM_LEVELS, -1))
        return logits


@LIKELIHOODS.register("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Two values, -1 and 1, for black-and-white images; `parameters` are the logits of 1.

    Gray is rounded to the nearer of the two.
    """

    num_values = 2

    def num_parameters(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logits = upcast(parameters)
        is_one = to_levels(x, 2).to(logits.dtype)
        nll = F.binary_cross_entropy_with_logits(logits, is_one, reduction="none")
        return -nll.flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return from_levels(parameters > 0, 2)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        noise = sample_uniform(parameters.shape, seed, parameters.device)
        return from_levels(noise < torch.sigmoid(parameters.double() / temperature), 2)
