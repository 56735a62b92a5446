"""The `gaussian` likelihood: squared error as a log-density with one fixed variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood
from vqvideo.processes import summed

BATCHES = 100  # training batches over which the variance is measured
LEAST = 1e-4  # an even batch must not make the reconstruction term count for everything


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """x ~ N(parameters, variance), the variance that of the data.

    The variance is the mean over the first hundred training batches and then stays: a buffer, so
    a checkpoint restores it. Dividing by it puts the reconstruction term on the scale of the
    commitment loss whatever the data, which is why beta = 0.25 works everywhere (the paper,
    section 3.2, finds beta from 0.1 to 2.0 makes no difference).

    A density: `log_prob` may be positive, and bits per dimension do not follow from it.
    """

    num_values = None
    variance: Tensor
    batches_seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("batches_seen", torch.tensor(0))

    def num_parameters(self, channels: int) -> int:
        return channels

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        if self.batches_seen < BATCHES:
            self.batches_seen += 1
            spread = _variance(x.float()).clamp(min=LEAST)
            self.variance += (spread - self.variance) / self.batches_seen

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        squared = (parameters.float() - x.float()).square().flatten(1).sum(dim=1)
        log_scale = math.log(2 * math.pi) + self.variance.log()
        return -(squared / self.variance + x[0].numel() * log_scale) / 2

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.float().clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(parameters.shape, generator=generator).to(parameters.device)
        return (parameters.float() + (temperature * self.variance).sqrt() * noise).clamp(-1, 1)


def _variance(x: Tensor) -> Tensor:
    """Of the batches of all processes together."""
    number = summed(torch.tensor(float(x.numel()), device=x.device))
    mean = summed(x.sum()) / number
    return summed((x - mean).square().sum()) / number
