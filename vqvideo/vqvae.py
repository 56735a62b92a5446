"""The VQ-VAE: start reading here.

    x -> encoder -> z_e -> quantizer -> codes -> codebook -> z_q -> decoder -> p(x | z_q)

Trained by eq. 3 of van den Oord et al. 2017 (arXiv 1711.00937): the reconstruction term
log p(x | z_q), whose gradient the quantizer passes straight to the encoder; the codebook term,
zero for a moving-average codebook; and beta times the commitment term. The prior over codes is
uniform here, so its KL is the constant N ln K and drops out; a learned prior comes second
(priors, generator.py).

One class for audio, images and video: the parts it is given know their rank.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.grid import grid_shape
from vqvideo.likelihoods import Likelihood
from vqvideo.modes import evaluating
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.quantizers import Quantized, Quantizer


class VQVAEOutput(NamedTuple):
    """Attributes:
    parameters: of the likelihood, `[b, num_parameters, *axes]`.
    quantized: codes, z_q and the two losses of the quantizer.
    """

    parameters: Tensor
    quantized: Quantized


class VQVAELoss(NamedTuple):
    """Attributes:
    total: scalar to minimise: eq. 3 with the reconstruction term per dimension.
    reconstruction_nats: scalar, -log p(x | z_q) in nats per item, mean over the batch.
    mode: the reconstruction to look at, `[b, c, *axes]` in [-1, 1].
    quantized: codes, z_q and the two losses of the quantizer.
    """

    total: Tensor
    reconstruction_nats: Tensor
    mode: Tensor
    quantized: Quantized


class VQVAE(nn.Module):
    """Encoder, quantizer, decoder and likelihood, already built.

    Args:
        encoder: data `[b, c, *axes]` in [-1, 1] to z_e.
        quantizer: z_e to codes and z_q.
        decoder: z_q to the parameters of the likelihood.
        likelihood: what those parameters say about data.
        commitment_weight: beta of eq. 3; 0.25 in all of the paper's experiments.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantizer: Quantizer,
        decoder: Decoder,
        likelihood: Likelihood,
        *,
        commitment_weight: float = 0.25,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.likelihood = likelihood
        self.commitment_weight = commitment_weight

    @property
    def rank(self) -> int:
        """Axes of the code grid."""
        return self.encoder.rank

    @property
    def downsampling(self) -> tuple[int, ...]:
        """Data steps per code along each axis."""
        return self.encoder.downsampling

    def forward(self, x: Tensor) -> VQVAEOutput:
        """Encode, quantize and decode data `[b, c, *axes]`.

        Raises:
            ValueError: an axis does not divide by the downsampling (the message says which
                sizes work), or x holds NaN or infinity.
        """
        quantized = self.quantizer(self.z_e(x))
        return VQVAEOutput(self.decoder(quantized.z_q), quantized)

    def z_e(self, x: Tensor) -> Tensor:
        """What the quantizer is given, `[b, z_channels, *grid]`, for data `[b, c, *axes]`.

        Raises:
            ValueError: as `forward`.
        """
        self._check(x)
        return self.encoder(x)  # type: ignore[no-any-return]

    def loss(self, x: Tensor, output: VQVAEOutput | None = None) -> VQVAELoss:
        """Eq. 3 for a batch, the reconstruction term divided by the number of dimensions.

        In training mode the likelihood sees the batch first, so that it can set itself up from
        the first one.

        Args:
            x: data `[b, c, *axes]`.
            output: what `forward(x)` returned, where it was called through a wrapper (data
                parallel); None calls it here.
        """
        if self.training:
            self.likelihood.observe(x)
        parameters, quantized = output or self(x)
        nats = -self.likelihood.log_prob(parameters, x).mean()
        total = (
            nats / x[0].numel()
            + quantized.codebook_loss
            + self.commitment_weight * quantized.commitment_loss
        )
        return VQVAELoss(total, nats, self.likelihood.mode(parameters.detach()), quantized)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes int64 `[b, *grid]` of data `[b, c, *axes]` in [-1, 1]. Moves no codebook."""
        with evaluating(self):
            return self.quantizer(self.z_e(x)).codes  # type: ignore[no-any-return]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Data `[b, c, *axes]` in [-1, 1]: the mode of p(x | z_q) for codes `[b, *grid]`."""
        with evaluating(self):
            return self.likelihood.mode(self.decoder(self.quantizer.decode(codes)))

    def fingerprint(self) -> str:
        """A hash of all that decides which codes data gets: encoder and quantizer."""
        digest = hashlib.sha256()
        for part in (self.encoder, self.quantizer):
            for name, tensor in part.state_dict().items():
                digest.update(name.encode())
                exact = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(exact.numpy().tobytes())
        return digest.hexdigest()

    def grid_shape(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """The code grid of data with these axes; raises `ValueError` where one does not divide."""
        return grid_shape(axes, self.downsampling)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 + self.rank:
            raise ValueError(
                f"data must be [batch, channels, *axes] with {self.rank} axes, got {list(x.shape)}"
            )
        if not x.is_floating_point() or x.shape[1] != self.encoder.channels:
            raise ValueError(
                f"data must be floats in [-1, 1] with {self.encoder.channels} channels, "
                f"got {x.dtype} {list(x.shape)}"
            )
        self.grid_shape(tuple(x.shape[2:]))
        if not torch.isfinite(x).all():
            bad = torch.nonzero(~torch.isfinite(x))
            raise ValueError(
                f"data holds {len(bad)} values that are NaN or infinite, "
                f"the first at [batch, channel, *axes] = {bad[0].tolist()}"
            )
