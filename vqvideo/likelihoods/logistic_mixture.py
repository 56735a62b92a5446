"""The `logistic_mixture` likelihood: few numbers that give every byte its probability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.likelihoods.base import (
    BYTES,
    LIKELIHOODS,
    Likelihood,
    from_levels,
    to_levels,
    uniform_noise,
    widened,
)

HALF = 1 / (BYTES - 1)  # half the distance between two values
LOG_SCALES = (-7.0, 7.0)  # all but on one value; as good as all beyond both ends. What lies outside
# of these only makes steps wilder.


SEED_APART = 7_368_787  # components and values must not be drawn from the same noise


class Mixture(NamedTuple):
    """Attributes:
    logits: of the components, `[b, m, *axes]`.
    means: `[b, m, c, *axes]`, before the channels before are added.
    log_scales: `[b, m, c, *axes]`.
    couplings: of each pair of channels, in [-1, 1], `[b, m, c (c - 1) / 2, *axes]`.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    couplings: Tensor

    def mean_of(self, channel: int, x: Tensor) -> Tensor:
        """Means `[b, m, *axes]` of a channel, told those before it in `x` `[b, m|1, c, *axes]`."""
        mean, first = self.means[:, :, channel], channel * (channel - 1) // 2
        for before in range(channel):
            mean = mean + self.couplings[:, :, first + before] * x[:, :, before]
        return mean


@LIKELIHOODS.register("logistic_mixture")
class LogisticMixtureLikelihood(Likelihood):
    """A mixture of logistic distributions, cut at the borders between the 256 values.

    As in PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, section 2.1 and 2.2): the components
    of a pixel are shared by its channels, and the means of a channel shift linearly with the
    channels before it. Values at both ends get all that lies beyond them, so the probabilities of
    all 256 sum to one.

    Args:
        num_mixtures: components.

    >>> likelihood = LogisticMixtureLikelihood(num_mixtures=5)
    >>> likelihood.num_parameters(3)
    50
    """

    num_values = BYTES

    def __init__(self, *, num_mixtures: int = 5) -> None:
        super().__init__()
        if num_mixtures < 1:
            raise ValueError(f"num_mixtures must be at least 1, got {num_mixtures}")
        self.num_mixtures = num_mixtures

    def num_parameters(self, channels: int) -> int:
        return self.num_mixtures * (channels + 1) * (channels + 2) // 2

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = from_levels(to_levels(x, BYTES), BYTES).to(widened(parameters).dtype)
            return self._log_prob_map(self._mixture(parameters), x).flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        """Of the values in the middle of the components, those that the mixture finds most
        probable.
        """
        mixture = self._mixture(parameters)
        middles = self._in_turn(mixture, lambda mean, log_scale: mean).unbind(1)
        nats = torch.stack([self._log_prob_map(mixture, middle) for middle in middles], dim=1)
        return _chosen(torch.stack(middles, dim=1), nats.argmax(dim=1)).float()

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        mixture = self._mixture(parameters)
        noise = uniform_noise(mixture.means[:, :1].shape, seed, parameters.device)
        choice = uniform_noise(mixture.logits.shape, seed + SEED_APART, parameters.device)
        component = (mixture.logits / temperature - (-choice.log()).log()).argmax(dim=1)
        logistic = iter(noise.logit().unbind(2))
        drawn = self._in_turn(
            mixture, lambda mean, log_scale: mean + temperature * log_scale.exp() * next(logistic)
        )
        return _chosen(drawn, component).float()

    def _mixture(self, parameters: Tensor) -> Mixture:
        """Zeros are components of equal weight that lie evenly in [-1, 1]."""
        number, wide = self.num_mixtures, widened(parameters).unflatten(1, (self.num_mixtures, -1))
        channels = (math.isqrt(8 * wide.shape[2] + 1) - 3) // 2
        sizes = (1, channels, channels, channels * (channels - 1) // 2)
        logits, means, log_scales, couplings = wide.split(sizes, dim=2)
        even = torch.arange(number, dtype=wide.dtype, device=wide.device) * 2 + 1
        middles = (even / number - 1).view(number, *(1,) * (wide.ndim - 2))
        log_scales = (log_scales - math.log(2 * number)).clamp(*LOG_SCALES)
        return Mixture(logits.squeeze(2), means + middles, log_scales, couplings.tanh())

    def _log_prob_map(self, mixture: Mixture, x: Tensor) -> Tensor:
        """Log-probability of each position, `[b, *axes]`, for values `[b, c, *axes]`."""
        nats = mixture.logits.log_softmax(dim=1)
        told = x[:, None]
        for channel in range(x.shape[1]):
            value, log_scale = told[:, :, channel], mixture.log_scales[:, :, channel]
            nats = nats + _log_mass(value - mixture.mean_of(channel, told), log_scale, value)
        return nats.logsumexp(dim=1)

    def _in_turn(self, mixture: Mixture, draw: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Values `[b, m, c, *axes]` of all components, channel by channel: what `draw` makes of
        mean and log-scale, as the nearest value.
        """
        x = torch.zeros_like(mixture.means)
        for channel in range(x.shape[2]):
            value = draw(mixture.mean_of(channel, x), mixture.log_scales[:, :, channel])
            levels = to_levels(value.clamp(-1, 1), BYTES)
            x[:, :, channel] = from_levels(levels, BYTES).to(x.dtype)
        return x


def _log_mass(distance: Tensor, log_scale: Tensor, value: Tensor) -> Tensor:
    """Log of what a logistic distribution has between the borders of a value, which lies at
    `distance` from its mean.

    With s the sigmoid, a and b the borders: s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), no factor of
    which is a difference of nearly equal numbers.
    """
    inverse = (-log_scale).exp()
    below, above = (distance - HALF) * inverse, (distance + HALF) * inverse
    is_first, is_last = value <= HALF - 1, value >= 1 - HALF
    up_to = F.logsigmoid(above).where(~is_last, 0)
    from_on = F.logsigmoid(-below).where(~is_first, 0)
    between = torch.log(-torch.expm1(-2 * HALF * inverse)).where(~(is_first | is_last), 0)
    return up_to + from_on + between


def _chosen(values: Tensor, component: Tensor) -> Tensor:
    """Of values `[b, m, c, *axes]`, at each position those of one component `[b, *axes]`."""
    index = component[:, None, None].expand(-1, 1, *values.shape[2:])
    return values.gather(1, index).squeeze(1)
