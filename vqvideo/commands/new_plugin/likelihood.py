"""A likelihood for vqvideo: absolute error as a log-density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.likelihoods import Likelihood


class MyLikelihood(Likelihood):
    """Laplace distribution around the decoder's output.

    It is a density (`num_values` is None), so it does not define bits per dimension.

    Args:
        scale: scale of the distribution, in units of the data, which is in [-1, 1].
    """

    def __init__(self, *, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = scale

    def num_parameters(self, channels: int) -> int:
        """Return the number of parameter channels: as many as the data has."""
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | parameters) in nats, summed over each item: `[b]`."""
        errors = (parameters.float() - x.float()).abs().flatten(1).sum(dim=1)
        return -errors / self.scale - x[0].numel() * math.log(2 * self.scale)

    def mode(self, parameters: Tensor) -> Tensor:
        """Return the most probable data."""
        return parameters.float().clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        """Sample from the distribution; p^(1/T) has T times the scale."""
        rng = torch.Generator().manual_seed(seed)
        noise = torch.empty(2, *parameters.shape).exponential_(generator=rng)
        noise = (noise[0] - noise[1]).to(parameters.device)  # has a Laplace distribution
        return (parameters.float() + temperature * self.scale * noise).clamp(-1, 1)
