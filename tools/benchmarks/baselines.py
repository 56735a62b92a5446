"""Models with the same networks and likelihood that differ in their latents.

They are the models compared in section 4.1 of van den Oord et al. 2017: codes (VQ-VAE), continuous
latents (VAE, Kingma and Welling 2013, arXiv 1312.6114) and discrete latents trained by sampling
(VIMCO, Mnih and Rezende 2016, arXiv 1602.06725). Each gives a lower bound of log p(x).
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


class NegativeELBO(NamedTuple):
    """The negative ELBO of a batch in nats `[b]`, an upper bound of -log p(x) on average.

    Attributes:
        reconstruction: NLL of the data given the latents.
        kl: KL divergence of the latents from their prior.
    """

    reconstruction: Tensor
    kl: Tensor


class Baseline(nn.Module, ABC):
    """A model in the comparison of bits per dimension."""

    @abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """Return the scalar loss in nats per dimension for data `[b, c, *axes]`."""

    @abstractmethod
    def negative_elbo(self, x: Tensor) -> NegativeELBO:
        """Return the negative ELBO of data `[b, c, *axes]`."""

    def update_codebook(self) -> None:
        """Update the codebook, if there is one; called once after every optimizer step."""


class VQVAEBaseline(Baseline):
    """A VQ-VAE with a uniform prior."""

    def __init__(self, vqvae: VQVAE) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.vqvae.quantizer.auto_update = False

    def loss(self, x: Tensor) -> Tensor:
        return self.vqvae.loss(x).total

    def negative_elbo(self, x: Tensor) -> NegativeELBO:
        parameters, quantized = self.vqvae(x)
        num_codes = quantized.codes[0].numel()
        nll = -self.vqvae.likelihood.log_prob(parameters, x)
        return NegativeELBO(nll, torch.full_like(nll, num_codes * math.log(self.codebook_size)))

    @property
    def codebook_size(self) -> int:
        """Number of codebook entries."""
        return self.vqvae.quantizer.codebook_size

    def update_codebook(self) -> None:
        self.vqvae.quantizer.update_codebook()


class VAEBaseline(Baseline):
    """A VAE: the encoder returns the mean and log-variance of each latent; the prior is N(0, 1).

    Args:
        encoder: returns twice as many channels as the decoder takes.
        decoder: maps latents to the parameters of the likelihood.
        likelihood: likelihood of the data.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    def loss(self, x: Tensor) -> Tensor:
        return sum(self.negative_elbo(x)).mean() / x[0].numel()  # type: ignore[union-attr]

    def negative_elbo(self, x: Tensor) -> NegativeELBO:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        log_variance = log_variance.clamp(-12, 12)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        nll = -self.likelihood.log_prob(self.decoder(z), x)
        return NegativeELBO(nll, kl.flatten(1).sum(dim=1))


class VIMCOBaseline(Baseline):
    """A model with discrete latents sampled from a posterior, trained by a multi-sample bound.

    The posterior is trained with score-function gradients; the baseline of each sample is computed
    from the other samples, which reduces the variance.

    Args:
        encoder: returns the logits of all latents of a position, `num_latents * codebook_size`
            channels.
        decoder: takes `num_latents * code_dim` channels, an embedding for each latent.
        likelihood: likelihood of the data.
        num_latents: number of latents per position.
        codebook_size: number of values of a latent.
        code_dim: channels of an embedding.
        num_samples: number of samples in the bound; the paper uses 50.
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
        self.embeddings = nn.Parameter(torch.randn(num_latents, codebook_size, code_dim))

    def loss(self, x: Tensor) -> Tensor:
        log_weights, posterior = self._compute_log_weights(x)
        bound = _log_mean_exp(log_weights)
        num_samples = self.num_samples
        others = (log_weights.sum(dim=0) - log_weights) / (num_samples - 1)
        own = torch.eye(num_samples, dtype=torch.bool, device=x.device)[:, :, None]
        # The bound with the weight of one sample replaced by the geometric mean of the others.
        baseline = _log_mean_exp(torch.where(own, others, log_weights[:, None]))
        signal = (bound - baseline).detach()
        return -(bound + (signal * posterior).sum(dim=0)).mean() / x[0].numel()

    def negative_elbo(self, x: Tensor) -> NegativeELBO:
        """Return the negative bound as `reconstruction`; `kl` is 0, as the bound has no split."""
        bound = _log_mean_exp(self._compute_log_weights(x)[0])
        return NegativeELBO(-bound, torch.zeros_like(bound))

    def _compute_log_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x, z) - log q(z | x) and log q(z | x) of each sample, `[m, b]`."""
        size, num_latents = self.codebook_size, len(self.embeddings)
        logits = (
            self.encoder(x).unflatten(1, (num_latents, size)).movedim(2, -1).log_softmax(dim=-1)
        )
        shape = (self.num_samples, *logits.shape[:-1])
        z = torch.distributions.Categorical(logits=logits).sample((self.num_samples,))
        posterior = logits.expand(*shape, size).gather(-1, z[..., None])
        posterior = posterior.flatten(2).sum(dim=2)
        embedded = [F.embedding(z[:, :, i], table) for i, table in enumerate(self.embeddings)]
        vectors = torch.cat(embedded, dim=-1).movedim(-1, 2).flatten(0, 1)
        repeated = x.repeat(self.num_samples, *(1,) * (x.ndim - 1))
        log_prob = self.likelihood.log_prob(self.decoder(vectors), repeated).view(shape[:2])
        uniform = -z[0, 0].numel() * math.log(size)
        return log_prob + uniform - posterior, posterior


def _log_mean_exp(log_weights: Tensor) -> Tensor:
    """Return log(mean(exp(log_weights))) over the first axis."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))
