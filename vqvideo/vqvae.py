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
from typing import NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor, nn

from vqvideo.arguments import check_data, to_int64
from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import compute_grid_shape
from vqvideo.identity import fingerprint
from vqvideo.likelihoods import Likelihood
from vqvideo.modes import eval_view
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.nets.chunks import check_shapes, crop, pad_to_multiple
from vqvideo.nets.conditioning import ConcatConditioning
from vqvideo.nets.conv import StreamingState
from vqvideo.nets.streaming import ChunkedRunner, StreamingModule
from vqvideo.quantizers import Quantized, Quantizer
from vqvideo.quantizers.base import check_finite

CHUNK_RULE = "projected in whole chunks"  # part of fingerprints; older versions cropped chunks


class VQVAEOutput(NamedTuple):
    """The output of a forward pass.

    Attributes:
        parameters: parameters of the likelihood, `[b, num_parameters, *axes]`.
        quantized: codes, z_q and the two losses of the quantizer.
    """

    parameters: Tensor
    quantized: Quantized


class VQVAELoss(NamedTuple):
    """The loss of a batch and the values it is computed from.

    Attributes:
        total: scalar to minimize, eq. 3 with the reconstruction term per dimension.
        reconstruction_nats: scalar, -log p(x | z_q) in nats per item, mean over the batch.
        parameters: parameters of the likelihood; their `mode` is the reconstruction.
        quantized: codes, z_q and the two losses of the quantizer.
    """

    total: Tensor
    reconstruction_nats: Tensor
    parameters: Tensor
    quantized: Quantized


class DecodingOptions(TypedDict, total=False):
    """Options of `VQVAE.decode`.

    Attributes:
        tile: tile size in codes, one per axis except the first, for frames that do not fit in
            memory; None processes whole frames.
        temperature: 0 gives the mode of the likelihood, 1 a sample; see
            `Likelihood.sample_stream`. None uses the likelihood's `default_temperature`, 0 unless
            it is autoregressive.
        seed: seed of the noise of a sample; a single seed, or one per item if the likelihood is
            autoregressive.
        known: data `[b, c, n, ...]` of the first n steps, which an autoregressive likelihood
            continues.
    """

    tile: Sequence[int] | None
    temperature: float | None
    seed: int | Sequence[int]
    known: Tensor | None


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

    Raises:
        ValueError: `cond` has a condition that varies over positions.
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
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.likelihood = likelihood
        self.commitment_weight = commitment_weight
        self.cond = cond or CondSpec()
        self.cond_embedding = ConcatConditioning(self.cond, quantizer.z_channels)

    @property
    def rank(self) -> int:
        """Number of axes of the code grid."""
        return self.encoder.rank

    @property
    def downsampling(self) -> tuple[int, ...]:
        """Data steps per code along each axis."""
        return self.encoder.downsampling

    def forward(self, x: Tensor, cond: Cond | None = None) -> VQVAEOutput:
        """Encode, quantize and decode data `[b, c, *axes]`, with the decoder conditioned on `cond`.

        Raises:
            ValueError: an axis is not divisible by the downsampling (the message lists valid
                sizes), x contains NaN or infinity, or `cond` does not match the decoder's.
        """
        quantized = self.quantizer(self.compute_z_e(x))
        return VQVAEOutput(self.predict_parameters(quantized.z_q, cond), quantized)

    def predict_parameters(self, z_q: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the likelihood's parameters `[b, num_parameters, *axes]` for z_q
        `[b, z_channels, *grid]` and the decoder's conditions.
        """
        return self.decoder(self.cond_embedding(z_q, cond))  # type: ignore[no-any-return]

    def compute_z_e(self, x: Tensor) -> Tensor:
        """Return the input of the quantizer, `[b, z_channels, *grid]`, for data `[b, c, *axes]`.

        Raises:
            ValueError: as for `forward`.
        """
        self._check_data(x)
        return self.encoder(x)  # type: ignore[no-any-return]

    def loss(
        self,
        x: Tensor,
        output: VQVAEOutput | None = None,
        *,
        cond: Cond | None = None,
        observe: bool = True,
    ) -> VQVAELoss:
        """Return eq. 3 for a batch, with the reconstruction term per dimension.

        In training mode, the likelihood first observes the batch, so that it can initialize itself
        from the first batch.

        Args:
            x: data `[b, c, *axes]`.
            output: the result of `forward(x, cond)` if it was called through a data-parallel
                wrapper; None calls it here.
            cond: conditions of the decoder.
            observe: False if the likelihood has already observed this batch, as part of a larger
                one.
        """
        if self.training and observe:
            self.likelihood.observe(x)
        parameters, quantized = output or self(x, cond)
        nats = -self.likelihood.log_prob(parameters, x).mean()
        total = (
            nats / x[0].numel()
            + quantized.codebook_loss
            + self.commitment_weight * quantized.commitment_loss
        )
        return VQVAELoss(total, nats, parameters.detach(), quantized)

    def encode(self, x: Tensor, *, tile: Sequence[int] | None = None) -> Tensor:
        """Return the codes int64 `[b, *grid]` of data `[b, c, *axes]` in [-1, 1].

        The codebook is not updated. Long data is processed in chunks (nets/streaming.py), so only
        the memory of the data and the codes grows with its length.

        Args:
            x: data.
            tile: tile size in codes, one per axis except the first, for frames that do not fit in
                memory; None processes whole frames. Different tile sizes round differently.
        """
        self._check_data(x)
        return torch.cat(list(self._encode_chunks([x], tile)), dim=1)

    def decode(
        self, codes: Tensor, cond: Cond | None = None, **options: Unpack[DecodingOptions]
    ) -> Tensor:
        """Decode codes `[b, *grid]` to data `[b, c, *axes]` in [-1, 1]: the mode of p(x | z_q), or
        a sample.

        Args:
            codes: integers of any dtype; with several codebooks `[b, *grid, s]`.
            cond: conditions of the decoder; None decodes without conditions.
            options: see `DecodingOptions`.
        """
        if not to_int64("codes", codes).numel():
            raise ValueError(f"there are no codes to decode: their shape is {list(codes.shape)}")
        return torch.cat(list(self._decode_chunks([codes], cond, **options)), dim=2)

    def encode_stream(
        self, chunks: Iterable[Tensor], *, tile: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Encode data chunk by chunk and yield codes `[b, n, ...]` as soon as they are final.

        Concatenated, they equal the result of `encode` bit for bit, for any chunk lengths; only a
        few chunks are in memory. If the data ends within a code, its last step is repeated to
        complete the code; pass the original length to `decode_stream`.

        Args:
            chunks: data `[b, c, n, ...]` of any lengths along the first axis, in order. To encode a
                video file, pass `(chunk[None] for chunk in media.read_video_chunks(file))`.
            tile: as for `encode`.

        Raises:
            ValueError: the encoder needs its whole input at once, a chunk has the wrong shape, or
                there is no data.
        """
        self._check_streamable(self.encoder, "encoder")
        return self._encode_chunks(
            pad_to_multiple(map(self._check_chunk, chunks), self.downsampling[0]), tile
        )

    def decode_stream(
        self,
        chunks: Iterable[Tensor],
        cond: Cond | None = None,
        *,
        length: int | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Tensor]:
        """Decode codes chunk by chunk and yield data `[b, c, n, ...]` as soon as it is final.

        Concatenated, it equals the result of `decode` bit for bit.

        Args:
            chunks: codes `[b, n, ...]` of any lengths along the first axis, in order.
            cond: as for `decode`.
            length: length of the data along the first axis, if it ends within a code.
            options: as for `decode`.

        Raises:
            ValueError: the decoder needs its whole input at once, or the codes end before `length`.
        """
        self._check_streamable(self.decoder, "decoder")
        return crop(self._decode_chunks(chunks, cond, **options), length)

    def _encode_chunks(
        self, chunks: Iterable[Tensor], tile: Sequence[int] | None
    ) -> Iterator[Tensor]:
        encoder, quantizer = eval_view(self.encoder), eval_view(self.quantizer)

        def quantize(z_e: Tensor) -> Tensor:
            return self._codes_to_channels(quantizer(z_e).codes)

        # Whole chunks are quantized: the matrix products of projection and search round
        # differently with the number of rows, so the end of the data would change codes before it.
        runner = ChunkedRunner(
            encoder, self.downsampling, (1,) * self.rank, tile, postprocess=quantize
        )
        return map(self._channels_to_codes, runner.run(chunks))

    def _decode_chunks(
        self,
        chunks: Iterable[Tensor],
        cond: Cond | None,
        *,
        tile: Sequence[int] | None = None,
        temperature: float | None = None,
        seed: int | Sequence[int] = 0,
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        view = eval_view(self)

        def run(codes: Tensor, *state: StreamingState) -> Tensor:
            z_q = view.quantizer.decode(self._channels_to_codes(codes))
            return view.decoder(view.cond_embedding(z_q, cond), *state)  # type: ignore[no-any-return]

        runner = ChunkedRunner(view.decoder, (1,) * self.rank, self.downsampling, tile, run)
        int64_chunks = (to_int64("codes", chunk) for chunk in chunks)
        default = view.likelihood.default_temperature
        return view.likelihood.sample_stream(
            runner.run(check_shapes(map(self._codes_to_channels, int64_chunks))),
            temperature=default if temperature is None else temperature,
            seed=seed,
            known=known,
        )

    def _codes_to_channels(self, codes: Tensor) -> Tensor:
        """Return codes `[b, *grid]` as `[b, 1, *grid]`, and `[b, *grid, s]` as `[b, s, *grid]`."""
        is_multi = self.quantizer.num_codebooks > 1
        if codes.ndim != 1 + self.rank + is_multi:
            suffix = ", then an axis of codebooks" if is_multi else ""
            raise ValueError(
                f"codes must be [batch, *grid] with {self.rank} grid axes{suffix}, got "
                f"{list(codes.shape)}"
            )
        return codes.movedim(-1, 1) if is_multi else codes[:, None]

    def _channels_to_codes(self, codes: Tensor) -> Tensor:
        return codes.movedim(1, -1) if self.quantizer.num_codebooks > 1 else codes[:, 0]

    def _check_streamable(self, module: StreamingModule, name: str) -> None:
        if not module.is_causal and (module.context is None or module.context[0] is None):
            raise ValueError(
                f"this {name} declares no `context` along the first axis, so it cannot process its "
                f"input in chunks; use encode or decode on all of it"
            )

    def fingerprint(self) -> str:
        """Return a hash of everything that determines the codes of data: encoder and quantizer,
        each with its registered name, package, options and weights, the encoder's strides, and the
        rule by which a projection is applied to chunks.
        """
        return self.compatible_fingerprints()[0]

    def compatible_fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprints of codes that this model decodes: `fingerprint()`, and that of
        versions without the rule, which encoded only near ties differently.
        """
        context = self.downsampling, self.encoder.is_causal
        contexts: list[object] = [context]
        if self.encoder.is_causal and self.quantizer.has_projection:
            contexts.insert(0, (*context, CHUNK_RULE))
        return tuple(fingerprint(self.encoder, self.quantizer, context=each) for each in contexts)

    def compute_grid_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the code grid of data with these axes.

        Raises:
            ValueError: an axis is not divisible by the downsampling.
        """
        return compute_grid_shape(shape, self.downsampling)

    def _check_chunk(self, chunk: Tensor) -> Tensor:
        self._check_data(chunk, check_length=False)
        return chunk

    def _check_data(self, x: Tensor, *, check_length: bool = True) -> None:
        weight = next((p for p in self.encoder.parameters() if p.is_floating_point()), None)
        check_data("data", x, rank=self.rank, channels=self.encoder.channels, like=weight)
        axes = tuple(x.shape[2:])
        self.compute_grid_shape(axes if check_length else (self.downsampling[0], *axes[1:]))
        check_finite("data", torch.isfinite(x), "axes")
