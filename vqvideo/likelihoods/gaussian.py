"""The `gaussian` likelihood: squared error as a log-density with a single fixed variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.arguments import check_seed
from vqvideo.distributed import all_reduce_sum
from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood

NUM_VARIANCE_BATCHES = 100  # training batches from which the variance is estimated
MIN_VARIANCE = 1e-4  # keeps a constant batch from making the reconstruction term dominate the loss


@LIKELIHOODS.register("gaussian")
class GaussianLikelihood(Likelihood):
    """x ~ N(parameters, variance), with the variance of the data.

    The variance is the mean over the first hundred training batches and is then fixed. It is a
    buffer, so a checkpoint restores it. Dividing by it puts the reconstruction term on the scale of
    the commitment loss for any data, so beta = 0.25 works for all (section 3.2 of the paper reports
    no effect of beta from 0.1 to 2.0).

    A density: `log_prob` may be positive, and bits per dimension are not defined.
    """

    num_values = None
    variance: Tensor
    num_batches_tracked: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def num_parameters(self, channels: int) -> int:
        return channels

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        if self.num_batches_tracked < NUM_VARIANCE_BATCHES:
            self.num_batches_tracked += 1
            batch_variance = _compute_variance(x.float()).clamp(min=MIN_VARIANCE)
            self.variance += (batch_variance - self.variance) / self.num_batches_tracked

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        squared_error = (parameters.float() - x.float()).square().flatten(1).sum(dim=1)
        log_scale = math.log(2 * math.pi) + self.variance.log()
        return -(squared_error / self.variance + x[0].numel() * log_scale) / 2

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.float().clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(check_seed(seed))
        noise = torch.randn(parameters.shape, generator=generator).to(parameters.device)
        return (parameters.float() + (temperature * self.variance).sqrt() * noise).clamp(-1, 1)


def _compute_variance(x: Tensor) -> Tensor:
    """Return the variance over the batches of all processes."""
    num_values = all_reduce_sum(torch.tensor(float(x.numel()), device=x.device))
    mean = all_reduce_sum(x.sum()) / num_values
    return all_reduce_sum((x - mean).square().sum()) / num_values
