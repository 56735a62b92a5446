"""Models of one network and one likelihood that differ in what lies between encoder and decoder.

What section 4.1 of van den Oord et al. 2017 compares: codes (VQ-VAE), continuous latents (VAE,
Kingma and Welling 2013, arXiv 1312.6114) and discrete ones trained by sampling (VIMCO, Mnih and
Rezende 2016, arXiv 1602.06725). Each says how many nats data takes, by a bound of log p(x).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.likelihoods import Likelihood
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.vqvae import VQVAE


class Nats(NamedTuple):
    """What it takes to say an item, in nats `[b]`: at least -log p(x), on average.

    Attributes:
        data: once the latents are known.
        latents: to say those.
    """

    data: Tensor
    latents: Tensor


class Baseline(nn.Module, ABC):
    """A model whose bits are to be compared."""

    @abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """Scalar to minimise, in nats per dimension, for data `[b, c, *axes]`."""

    @abstractmethod
    def nats(self, x: Tensor) -> Nats:
        """What it takes to say data."""

    def step(self) -> None:
        """Once after every optimizer step."""


class Discrete(Baseline):
    """A VQ-VAE, its prior uniform."""

    def __init__(self, vqvae: VQVAE) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.vqvae.quantizer.auto_step = False

    def loss(self, x: Tensor) -> Tensor:
        return self.vqvae.loss(x).total

    def nats(self, x: Tensor) -> Nats:
        parameters, quantized = self.vqvae(x)
        number = quantized.codes[0].numel()
        data = -self.vqvae.likelihood.log_prob(parameters, x)
        return Nats(data, torch.full_like(data, number * math.log(self.codebook_size)))

    @property
    def codebook_size(self) -> int:
        return self.vqvae.quantizer.codebook_size

    def step(self) -> None:
        self.vqvae.quantizer.step()


class Continuous(Baseline):
    """A VAE: the encoder gives mean and log-variance of each latent, the prior is N(0, 1).

    Args:
        encoder: gives twice as many channels as the decoder takes.
        decoder: from latents to the likelihood's parameters.
        likelihood: of the data.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    def loss(self, x: Tensor) -> Tensor:
        return sum(self.nats(x)).mean() / x[0].numel()  # type: ignore[union-attr]

    def nats(self, x: Tensor) -> Nats:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        log_variance = log_variance.clamp(-12, 12)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        data = -self.likelihood.log_prob(self.decoder(z), x)
        return Nats(data, divergence.flatten(1).sum(dim=1))


class Vimco(Baseline):
    """Discrete latents drawn from a posterior, trained by a bound of several samples.

    The gradient of the posterior is that of its log-probability, each sample's weighed by how much
    better it is than the others would let one expect, which keeps its variance low.

    Args:
        encoder: gives the logits of all latents of a position, `num_latents * codebook_size`
            channels.
        decoder: takes `num_latents * code_dim` channels, an embedding for each latent.
        likelihood: of the data.
        num_latents: at each position.
        codebook_size: values that a latent can take.
        code_dim: channels of an embedding.
        num_samples: of the bound; the paper takes 50.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        likelihood: Likelihood,
        *,
        num_latents: int,
        codebook_size: int,
        code_dim: int,
        num_samples: int,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.num_samples, self.codebook_size = num_samples, codebook_size
        self.entries = nn.Parameter(torch.randn(num_latents, codebook_size, code_dim))

    def loss(self, x: Tensor) -> Tensor:
        weights, posterior = self._log_weights(x)
        bound = _log_mean(weights)
        number = self.num_samples
        others = (weights.sum(dim=0) - weights) / (number - 1)
        own = torch.eye(number, dtype=torch.bool, device=x.device)[:, :, None]
        without = _log_mean(
            torch.where(own, others, weights[:, None])
        )  # had one been as the others
        signal = (bound - without).detach()
        return -(bound + (signal * posterior).sum(dim=0)).mean() / x[0].numel()

    def nats(self, x: Tensor) -> Nats:
        """The bound in one figure: of several samples, it does not fall apart in two."""
        bound = _log_mean(self._log_weights(x)[0])
        return Nats(-bound, torch.zeros_like(bound))

    def _log_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x, z) - log q(z | x) and log q(z | x) of each sample, `[m, b]`."""
        size, number = self.codebook_size, len(self.entries)
        logits = self.encoder(x).unflatten(1, (number, size)).movedim(2, -1).log_softmax(dim=-1)
        shape = (self.num_samples, *logits.shape[:-1])
        z = torch.distributions.Categorical(logits=logits).sample((self.num_samples,))
        posterior = logits.expand(*shape, size).gather(-1, z[..., None])
        posterior = posterior.flatten(2).sum(dim=2)
        each = [F.embedding(z[:, :, i], table) for i, table in enumerate(self.entries)]
        vectors = torch.cat(each, dim=-1).movedim(-1, 2).flatten(0, 1)
        repeated = x.repeat(self.num_samples, *(1,) * (x.ndim - 1))
        data = self.likelihood.log_prob(self.decoder(vectors), repeated).view(shape[:2])
        uniform = -z[0, 0].numel() * math.log(size)
        return data + uniform - posterior, posterior


def _log_mean(weights: Tensor) -> Tensor:
    """The logarithm of the mean of what these are the logarithms of, over the first axis."""
    return weights.logsumexp(dim=0) - math.log(len(weights))
