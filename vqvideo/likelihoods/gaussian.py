"""The `gaussian` likelihood: squared error as a log-density with one fixed variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """x ~ N(parameters, variance), the variance that of the data.

    The variance is measured on the first training batch and then stays: a buffer, so a
    checkpoint restores it. Dividing by it puts the reconstruction term on the scale of the
    commitment loss whatever the data, which is why beta = 0.25 works everywhere (the paper,
    section 3.2, finds beta from 0.1 to 2.0 makes no difference).

    A density: `log_prob` may be positive, and bits per dimension do not follow from it.
    """

    is_density = True
    variance: Tensor
    initialised: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("initialised", torch.tensor(False))

    def num_parameters(self, channels: int) -> int:
        return channels

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        if not self.initialised:
            self.variance.fill_(x.float().var(correction=0).clamp(min=1e-6))
            self.initialised.fill_(True)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        squared = (parameters.float() - x.float()).square().flatten(1).sum(dim=1)
        log_scale = math.log(2 * math.pi) + self.variance.log()
        return -(squared / self.variance + x[0].numel() * log_scale) / 2

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.float().clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(parameters.shape, generator=generator).to(parameters.device)
        return (parameters.float() + self.variance.sqrt() * noise).clamp(-1, 1)
