"""The `logistic-mixture` likelihood: a discretized mixture of logistics over bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.arguments import offset_seed
from vqvideo.likelihoods.base import (
    LIKELIHOODS,
    NUM_LEVELS,
    Likelihood,
    from_levels,
    sample_uniform,
    to_levels,
    upcast,
)

HALF_BIN_WIDTH = 1 / (NUM_LEVELS - 1)  # half the distance between two values
# From almost all mass on one value to almost all mass beyond both ends. Values outside this range
# only destabilize training.
LOG_SCALE_RANGE = (-7.0, 7.0)
COMPONENT_SEED_OFFSET = 7_368_787  # components and values must not be sampled with the same noise


class MixtureParameters(NamedTuple):
    """Parameters of a mixture of m logistics at each position.

    Attributes:
        logits: logits of the components, `[b, m, *axes]`.
        means: means without the contribution of earlier channels, `[b, m, c, *axes]`.
        log_scales: log-scales, `[b, m, c, *axes]`.
        couplings: coefficients of each pair of channels, in [-1, 1],
            `[b, m, c (c - 1) / 2, *axes]`.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    couplings: Tensor

    def compute_mean(self, channel: int, x: Tensor) -> Tensor:
        """Return the means `[b, m, *axes]` of a channel, given the channels before it in `x`
        `[b, m|1, c, *axes]`.
        """
        mean, offset = self.means[:, :, channel], channel * (channel - 1) // 2
        for previous in range(channel):
            mean = mean + self.couplings[:, :, offset + previous] * x[:, :, previous]
        return mean


@LIKELIHOODS.register("logistic-mixture")
class LogisticMixtureLikelihood(Likelihood):
    """Discretized mixture of logistic distributions over the 256 values.

    As in PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, sections 2.1 and 2.2), all channels of
    a pixel share its components, and the means of a channel depend linearly on the channels before
    it. The first and the last value include the mass beyond them, so the probabilities of
    all 256 values sum to one.

    Args:
        num_mixtures: number of components.

    >>> likelihood = LogisticMixtureLikelihood(num_mixtures=5)
    >>> likelihood.num_parameters(3)
    50
    """

    num_values = NUM_LEVELS

    def __init__(self, *, num_mixtures: int = 5) -> None:
        super().__init__()
        if num_mixtures < 1:
            raise ValueError(f"num_mixtures must be at least 1, got {num_mixtures}")
        self.num_mixtures = num_mixtures

    def num_parameters(self, channels: int) -> int:
        return self.num_mixtures * (channels + 1) * (channels + 2) // 2

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = from_levels(to_levels(x, NUM_LEVELS), NUM_LEVELS).to(upcast(parameters).dtype)
            return self._log_prob_map(self._unpack_parameters(parameters), x).flatten(1).sum(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        """Return the component mean with the highest probability under the mixture, for each
        position.
        """
        mixture = self._unpack_parameters(parameters)
        means = self._generate_channels(mixture, lambda mean, log_scale: mean).unbind(1)
        log_probs = torch.stack([self._log_prob_map(mixture, values) for values in means], dim=1)
        return _select_component(torch.stack(means, dim=1), log_probs.argmax(dim=1)).float()

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        mixture = self._unpack_parameters(parameters)
        value_noise = sample_uniform(mixture.means[:, :1].shape, seed, parameters.device)
        component_noise = sample_uniform(
            mixture.logits.shape, offset_seed(seed, COMPONENT_SEED_OFFSET), parameters.device
        )
        component = (mixture.logits / temperature - (-component_noise.log()).log()).argmax(dim=1)
        logistic = iter(value_noise.logit().unbind(2))
        samples = self._generate_channels(
            mixture, lambda mean, log_scale: mean + temperature * log_scale.exp() * next(logistic)
        )
        return _select_component(samples, component).float()

    def _unpack_parameters(self, parameters: Tensor) -> MixtureParameters:
        """Split the decoder's output into mixture parameters.

        An output of zeros gives components of equal weight with means spaced evenly in [-1, 1].
        """
        m, raw = self.num_mixtures, upcast(parameters).unflatten(1, (self.num_mixtures, -1))
        channels = (math.isqrt(8 * raw.shape[2] + 1) - 3) // 2
        sizes = (1, channels, channels, channels * (channels - 1) // 2)
        logits, means, log_scales, couplings = raw.split(sizes, dim=2)
        odd_numbers = torch.arange(m, dtype=raw.dtype, device=raw.device) * 2 + 1
        base_means = (odd_numbers / m - 1).view(m, *(1,) * (raw.ndim - 2))
        log_scales = (log_scales - math.log(2 * m)).clamp(*LOG_SCALE_RANGE)
        return MixtureParameters(
            logits.squeeze(2), means + base_means, log_scales, couplings.tanh()
        )

    def _log_prob_map(self, mixture: MixtureParameters, x: Tensor) -> Tensor:
        """Return the log-probability of each position, `[b, *axes]`, of values `[b, c, *axes]`."""
        log_probs = mixture.logits.log_softmax(dim=1)
        values = x[:, None]
        for channel in range(x.shape[1]):
            value, log_scale = values[:, :, channel], mixture.log_scales[:, :, channel]
            log_probs = log_probs + _log_mass(
                value - mixture.compute_mean(channel, values), log_scale, value
            )
        return log_probs.logsumexp(dim=1)

    def _generate_channels(
        self, mixture: MixtureParameters, generate_value: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return values `[b, m, c, *axes]` of all components, generated channel by channel.

        `generate_value` maps a mean and a log-scale to a value, which is then rounded to the
        nearest of the 256 values.
        """
        x = torch.zeros_like(mixture.means)
        for channel in range(x.shape[2]):
            value = generate_value(
                mixture.compute_mean(channel, x), mixture.log_scales[:, :, channel]
            )
            levels = to_levels(value.clamp(-1, 1), NUM_LEVELS)
            x[:, :, channel] = from_levels(levels, NUM_LEVELS).to(x.dtype)
        return x


def _log_mass(distance: Tensor, log_scale: Tensor, value: Tensor) -> Tensor:
    """Return the log-probability of a value's bin under a logistic distribution; `distance` is the
    value minus the mean.

    With s the sigmoid, and a and b the edges of the bin: s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)),
    which avoids cancellation.
    """
    inv_scale = (-log_scale).exp()
    lower, upper = (distance - HALF_BIN_WIDTH) * inv_scale, (distance + HALF_BIN_WIDTH) * inv_scale
    is_first, is_last = value <= HALF_BIN_WIDTH - 1, value >= 1 - HALF_BIN_WIDTH
    log_cdf = F.logsigmoid(upper).where(~is_last, 0)
    log_survival = F.logsigmoid(-lower).where(~is_first, 0)
    log_factor = torch.log(-torch.expm1(-2 * HALF_BIN_WIDTH * inv_scale)).where(
        ~(is_first | is_last), 0
    )
    return log_cdf + log_survival + log_factor


def _select_component(values: Tensor, component: Tensor) -> Tensor:
    """Select the values of one component at each position: `[b, c, *axes]` from `[b, m, c, *axes]`,
    given component indices `[b, *axes]`.
    """
    index = component[:, None, None].expand(-1, 1, *values.shape[2:])
    return values.gather(1, index).squeeze(1)
