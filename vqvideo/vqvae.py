"""The VQ-VAE: start reading here.

    x -> encoder -> z_e -> quantizer -> codes -> codebook -> z_q -> decoder -> p(x | z_q)

The training loss is eq. 3 of van den Oord et al. 2017 (arXiv 1711.00937): the reconstruction term
log p(x | z_q), whose gradient the quantizer passes straight through to the encoder; the codebook
term, zero for a moving-average codebook; and beta times the commitment term. The prior over codes
is uniform here, so the KL term is the constant N ln K and is omitted; a learned prior is the second
stage (priors, generator.py).

The same class serves audio, images and video: the rank is a property of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from vqvideo.arguments import check_data, to_int64
from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import compute_grid_shape
from vqvideo.identity import fingerprint
from vqvideo.likelihoods import Likelihood
from vqvideo.nets import Decoder, Encoder
from vqvideo.nets.conditioning import ConcatConditioning
from vqvideo.quantizers import Quantized, Quantizer
from vqvideo.quantizers.base import check_finite
from vqvideo.streaming import DecodingOptions, crop, decode_chunks, encode_chunks, pad_to_multiple

CHUNK_RULE = "projected in whole chunks"  # part of fingerprints; older versions cropped chunks


class VQVAEOutput(NamedTuple):
    """Parameters of the likelihood `[b, num_parameters, *axes]`, and the quantizer's output."""

    parameters: Tensor
    quantized: Quantized


class VQVAELoss(NamedTuple):
    """Eq. 3 with the reconstruction term per dimension, and the values it is computed from.

    `reconstruction_nats` is -log p(x | z_q) per item, the mean over the batch.
    """

    total: Tensor
    reconstruction_nats: Tensor
    parameters: Tensor
    quantized: Quantized


class VQVAE(nn.Module):
    """VQ-VAE composed of an encoder, a quantizer, a decoder and a likelihood.

    Args:
        encoder: maps data `[b, c, *axes]` in [-1, 1] to z_e.
        quantizer: maps z_e to codes and z_q.
        decoder: maps z_q to the parameters of the likelihood.
        likelihood: distribution p(x | z_q) with these parameters.
        commitment_weight: beta of eq. 3; 0.25 in all of the paper's experiments.
        cond: conditions of the decoder in addition to the codes: a class or a speaker, which the
            codes then need not encode (section 4.3: the same codes in another voice). The embedding
            has `z_channels` channels and is concatenated to z_q; without a condition it is zero.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantizer: Quantizer,
        decoder: Decoder,
        likelihood: Likelihood,
        *,
        commitment_weight: float = 0.25,
        cond: CondSpec | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.quantizer = encoder, quantizer
        self.decoder, self.likelihood = decoder, likelihood
        self.commitment_weight, self.cond = commitment_weight, cond or CondSpec()
        self.cond_embedding = ConcatConditioning(self.cond, quantizer.z_channels)

    @property
    def rank(self) -> int:
        """Number of axes of the code grid."""
        return self.encoder.rank

    @property
    def downsampling(self) -> tuple[int, ...]:
        """Data steps per code along each axis."""
        return self.encoder.downsampling

    def compute_grid_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the code grid of data with these axes, or raise `ValueError` with valid sizes."""
        return compute_grid_shape(shape, self.downsampling)

    def forward(self, x: Tensor, cond: Cond | None = None) -> VQVAEOutput:
        """Encode, quantize and decode data `[b, c, *axes]`; `cond` conditions the decoder."""
        quantized = self.quantizer(self.compute_z_e(x))
        return VQVAEOutput(self.predict_parameters(quantized.z_q, cond), quantized)

    def compute_z_e(self, x: Tensor) -> Tensor:
        """Return the input of the quantizer, `[b, z_channels, *grid]`, for data `[b, c, *axes]`."""
        return self.encoder(self._check_data(x))  # type: ignore[no-any-return]

    def predict_parameters(self, z_q: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the likelihood's parameters for z_q `[b, z_channels, *grid]` and conditions."""
        return self.decoder(self.cond_embedding(z_q, cond))  # type: ignore[no-any-return]

    def loss(
        self,
        x: Tensor,
        output: VQVAEOutput | None = None,
        *,
        cond: Cond | None = None,
        observe: bool = True,
    ) -> VQVAELoss:
        """Return eq. 3 for data `[b, c, *axes]`; in training the likelihood first observes it.

        Args:
            output: result of `forward(x, cond)` if a data-parallel wrapper called it.
            observe: False if the likelihood has observed this batch as part of a larger one.
        """
        if self.training and observe:
            self.likelihood.observe(x)
        parameters, quantized = output or self(x, cond)
        nats = -self.likelihood.log_prob(parameters, x).mean()
        commitment = self.commitment_weight * quantized.commitment_loss
        total = nats / x[0].numel() + quantized.codebook_loss + commitment
        return VQVAELoss(total, nats, parameters.detach(), quantized)

    def encode(self, x: Tensor, *, tile: Sequence[int] | None = None) -> Tensor:
        """Return the codes int64 `[b, *grid]` of data `[b, c, *axes]` in [-1, 1].

        Only the memory of data and codes grows with the length. For large frames, `tile` is the
        size of a tile in codes; see `DecodingOptions`.
        """
        return torch.cat(list(encode_chunks(self, [self._check_data(x)], tile)), dim=1)

    def decode(
        self, codes: Tensor, cond: Cond | None = None, **options: Unpack[DecodingOptions]
    ) -> Tensor:
        """Decode codes `[b, *grid]`, or `[b, *grid, s]` with s codebooks, to data `[b, c, *axes]`
        in [-1, 1]: the mode of p(x | z_q), or a sample; see `DecodingOptions`.
        """
        if not to_int64("codes", codes).numel():
            raise ValueError(f"there are no codes to decode: their shape is {list(codes.shape)}")
        return torch.cat(list(decode_chunks(self, [codes], cond, **options)), dim=2)

    def encode_stream(
        self, chunks: Iterable[Tensor], *, tile: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Encode data `[b, c, n, ...]` chunk by chunk, with any n, and yield codes `[b, n, ...]`
        as soon as they are final. Concatenated, they equal the result of `encode` bit for bit.

        For a video file, `chunks` is `(chunk[None] for chunk in media.read_video_chunks(file))`. If
        the data ends within a code, its last step is repeated; pass its length to `decode_stream`.
        """
        self.encoder.check_chunkable("encoder")
        parts = (self._check_data(chunk, is_whole=False) for chunk in chunks)
        return encode_chunks(self, pad_to_multiple(parts, self.downsampling[0]), tile)

    def decode_stream(
        self,
        chunks: Iterable[Tensor],
        cond: Cond | None = None,
        *,
        length: int | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Tensor]:
        """Decode codes `[b, n, ...]` chunk by chunk, with any n, and yield data `[b, c, n, ...]` as
        soon as it is final. Concatenated, it equals the result of `decode` bit for bit.

        `length` is that of the data along the first axis, if it ends within a code.
        """
        self.decoder.check_chunkable("decoder")
        return crop(decode_chunks(self, chunks, cond, **options), length)

    def fingerprint(self) -> str:
        """Return a hash of what determines the codes: encoder, quantizer and the chunk rule."""
        return self.compatible_fingerprints()[0]

    def compatible_fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprints of codes that this model decodes: `fingerprint()`, and that of
        versions without the rule, which encoded only near ties differently.
        """
        contexts: list[tuple[object, ...]] = [(self.downsampling, self.encoder.is_causal)]
        if self.encoder.is_causal and self.quantizer.has_projection:
            contexts.insert(0, (*contexts[0], CHUNK_RULE))
        return tuple(fingerprint(self.encoder, self.quantizer, context=each) for each in contexts)

    def _check_data(self, x: Tensor, *, is_whole: bool = True) -> Tensor:
        weight = next((p for p in self.encoder.parameters() if p.is_floating_point()), None)
        check_data("data", x, rank=self.rank, channels=self.encoder.channels, like=weight)
        length = x.shape[2] if is_whole else self.downsampling[0]  # a chunk may end within a code
        self.compute_grid_shape((length, *x.shape[3:]))
        check_finite("data", torch.isfinite(x), "axes")
        return x
