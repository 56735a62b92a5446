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

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import grid_shape
from vqvideo.identity import fingerprint
from vqvideo.likelihoods import Likelihood
from vqvideo.modes import evaluating
from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.nets.blocks import Blocks, Blockwise
from vqvideo.nets.cond import ToldBeside
from vqvideo.nets.conv import Past
from vqvideo.nets.pieces import alike, cropped, filled_up
from vqvideo.quantizers import NotFiniteError, Quantized, Quantizer


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
    parameters: of the likelihood, whose `mode` is the reconstruction to look at.
    quantized: codes, z_q and the two losses of the quantizer.
    """

    total: Tensor
    reconstruction_nats: Tensor
    parameters: Tensor
    quantized: Quantized


class DecodingOptions(TypedDict, total=False):
    """How codes become data.

    Attributes:
        tile: codes along each axis but the first that are worked on at once, for frames too large
            for the memory; None is all of them.
        temperature: 0 gives the mode of the likelihood, 1 a sample; see `Likelihood.drawn`. None is
            what suits it, 0 unless it is autoregressive.
        seed: decides the noise of a sample; one, or one for each item where the likelihood is
            autoregressive.
        known: data `[b, c, n, ...]` of the first n steps, which an autoregressive likelihood goes
            on from.
    """

    tile: Sequence[int] | None
    temperature: float | None
    seed: int | Sequence[int]
    known: Tensor | None


class VQVAE(nn.Module):
    """Encoder, quantizer, decoder and likelihood, already built.

    Args:
        encoder: data `[b, c, *axes]` in [-1, 1] to z_e.
        quantizer: z_e to codes and z_q.
        decoder: z_q to the parameters of the likelihood.
        likelihood: what those parameters say about data.
        commitment_weight: beta of eq. 3; 0.25 in all of the paper's experiments.
        cond: what the decoder is told besides the codes, a class or who speaks, so that the codes
            need not say it (section 4.3: the same codes in another voice). Embedded, it stands
            beside z_q in `z_channels` channels more. None, and what a model is not told: zeros.

    Raises:
        ValueError: the decoder cannot be told what differs from position to position.
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
        self.cond_embedding = ToldBeside(self.cond, quantizer.z_channels)

    @property
    def rank(self) -> int:
        """Axes of the code grid."""
        return self.encoder.rank

    @property
    def downsampling(self) -> tuple[int, ...]:
        """Data steps per code along each axis."""
        return self.encoder.downsampling

    def forward(self, x: Tensor, cond: Cond | None = None) -> VQVAEOutput:
        """Encode, quantize and decode data `[b, c, *axes]`, the decoder told `cond`.

        Raises:
            ValueError: an axis does not divide by the downsampling (the message says which
                sizes work), x holds NaN or infinity, or `cond` is not what the decoder takes.
        """
        quantized = self.quantizer(self.z_e(x))
        return VQVAEOutput(self.parameters_of(quantized.z_q, cond), quantized)

    def parameters_of(self, z_q: Tensor, cond: Cond | None = None) -> Tensor:
        """The likelihood's parameters `[b, num_parameters, *axes]` for z_q `[b, z_channels, *grid]`
        and what the decoder is told.
        """
        return self.decoder(self.cond_embedding(z_q, cond))  # type: ignore[no-any-return]

    def z_e(self, x: Tensor) -> Tensor:
        """What the quantizer is given, `[b, z_channels, *grid]`, for data `[b, c, *axes]`.

        Raises:
            ValueError: as `forward`.
        """
        self._check(x)
        return self.encoder(x)  # type: ignore[no-any-return]

    def loss(
        self,
        x: Tensor,
        output: VQVAEOutput | None = None,
        *,
        cond: Cond | None = None,
        observe: bool = True,
    ) -> VQVAELoss:
        """Eq. 3 for a batch, the reconstruction term divided by the number of dimensions.

        In training mode the likelihood sees the batch first, so that it can set itself up from
        the first one.

        Args:
            x: data `[b, c, *axes]`.
            output: what `forward(x, cond)` returned, where it was called through a wrapper (data
                parallel); None calls it here.
            cond: what the decoder is told.
            observe: false where the likelihood has seen this batch, as part of a larger one.
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
        """Codes int64 `[b, *grid]` of data `[b, c, *axes]` in [-1, 1]. Moves no codebook.

        Long data is worked on in blocks (nets/blocks.py), so memory grows with the data and the
        codes alone.

        Args:
            x: data.
            tile: codes along each axis but the first that are worked on at once, for frames too
                large for the memory; None is all of them. With another tile the numbers round
                differently.
        """
        self._check(x)
        return torch.cat(list(self._encoded([x], tile)), dim=1)

    def decode(
        self, codes: Tensor, cond: Cond | None = None, **options: Unpack[DecodingOptions]
    ) -> Tensor:
        """Data `[b, c, *axes]` in [-1, 1] for codes `[b, *grid]`: the mode of p(x | z_q), or a
        sample.

        Args:
            codes: int64; with several codebooks `[b, *grid, s]`.
            cond: what the decoder is told; None tells it nothing.
            options: see `DecodingOptions`.
        """
        if not codes.numel():
            raise ValueError(f"there are no codes to decode: they are {list(codes.shape)}")
        return torch.cat(list(self._decoded([codes], cond, **options)), dim=2)

    def encode_stream(
        self, pieces: Iterable[Tensor], *, tile: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """Codes `[b, n, ...]`, as soon as they are certain, of data that comes in pieces.

        Put together they are, bit for bit, what `encode` gives for the whole, however the data was
        cut up; memory holds a few blocks. Data that ends within a code is filled up by repeating
        its last step: keep its length, and tell `decode_stream`.

        Args:
            pieces: data `[b, c, n, ...]` of any lengths along the first axis, in order; a video
                in constant memory: `(piece[None] for piece in media.read_pieces(file))`.
            tile: as for `encode`.

        Raises:
            ValueError: the encoder looks at all of its input; a piece does not fit; no data came.
        """
        self._check_streams(self.encoder, "encoder")
        return self._encoded(filled_up(map(self._checked, pieces), self.downsampling[0]), tile)

    def decode_stream(
        self,
        pieces: Iterable[Tensor],
        cond: Cond | None = None,
        *,
        length: int | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Tensor]:
        """Data `[b, c, n, ...]`, as soon as it is certain, of codes that come in pieces.

        Put together it is, bit for bit, what `decode` gives for the whole.

        Args:
            pieces: codes `[b, n, ...]` of any lengths along the first axis, in order.
            cond: as for `decode`.
            length: of the data along the first axis, where it ended within a code.
            options: as for `decode`.

        Raises:
            ValueError: the decoder looks at all of its input, or the codes end before `length`.
        """
        self._check_streams(self.decoder, "decoder")
        return cropped(self._decoded(pieces, cond, **options), length)

    def _encoded(self, pieces: Iterable[Tensor], tile: Sequence[int] | None) -> Iterator[Tensor]:
        blocks = Blocks(self.encoder, self.downsampling, (1,) * self.rank, tile)
        return self._in_blocks(blocks, pieces, lambda z_e: self.quantizer(z_e).codes)

    def _decoded(
        self,
        pieces: Iterable[Tensor],
        cond: Cond | None,
        *,
        tile: Sequence[int] | None = None,
        temperature: float | None = None,
        seed: int | Sequence[int] = 0,
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        several = self.quantizer.num_codebooks > 1

        def laid_out(codes: Tensor) -> Tensor:
            if codes.ndim != 1 + self.rank + several:
                last = ", and those of several codebooks last" if several else ""
                raise ValueError(
                    f"codes must be [batch, *grid] with {self.rank} grid axes{last}, got "
                    f"{list(codes.shape)}"
                )
            return codes.movedim(-1, 1) if several else codes[:, None]

        def run(codes: Tensor, *past: Past) -> Tensor:
            codes = codes.movedim(1, -1) if several else codes[:, 0]
            told = self.cond_embedding(self.quantizer.decode(codes), cond)
            return self.decoder(told, *past)  # type: ignore[no-any-return]

        blocks = Blocks(self.decoder, (1,) * self.rank, self.downsampling, tile, run)
        parameters = self._in_blocks(blocks, alike(map(laid_out, pieces)), lambda block: block)
        usual = self.likelihood.usual_temperature
        return self.likelihood.drawn(
            parameters,
            temperature=usual if temperature is None else temperature,
            seed=seed,
            known=known,
        )

    def _in_blocks(
        self, blocks: Blocks, pieces: Iterable[Tensor], finish: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """Each block of an input as `finish` makes it, in evaluation mode and without gradients."""
        for piece in itertools.chain(pieces, [None]):
            if piece is not None:
                blocks.push(piece)
            while True:
                with torch.no_grad(), evaluating(self):
                    out = blocks.ready(last=piece is None)
                    out = out if out is None else finish(out)
                if out is None:
                    break
                yield out

    def _check_streams(self, part: Blockwise, name: str) -> None:
        if not part.causal and (part.reach is None or part.reach[0] is None):
            raise ValueError(
                f"this {name} does not say how far it looks along the first axis (`reach`), so its "
                f"input cannot come in pieces; give the whole"
            )

    def fingerprint(self) -> str:
        """Return a hash of what decides which codes data gets: encoder and quantizer, each by its
        registered name, package, options and weights, and how far the encoder strides.
        """
        strides = self.downsampling, self.encoder.causal
        return fingerprint(self.encoder, self.quantizer, context=strides)

    def grid_shape(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """The code grid of data with these axes; raises `ValueError` where one does not divide."""
        return grid_shape(axes, self.downsampling)

    def _checked(self, piece: Tensor) -> Tensor:
        self._check(piece, whole=False)
        return piece

    def _check(self, x: Tensor, *, whole: bool = True) -> None:
        if x.ndim != 2 + self.rank:
            raise ValueError(
                f"data must be [batch, channels, *axes] with {self.rank} axes, got {list(x.shape)}"
            )
        if not x.is_floating_point() or x.shape[1] != self.encoder.channels:
            raise ValueError(
                f"data must be floats in [-1, 1] with {self.encoder.channels} channels, "
                f"got {x.dtype} {list(x.shape)}"
            )
        axes = tuple(x.shape[2:])
        self.grid_shape(axes if whole else (self.downsampling[0], *axes[1:]))
        if not torch.isfinite(x).all():
            bad = torch.nonzero(~torch.isfinite(x))
            raise NotFiniteError(
                f"data holds {len(bad)} values that are NaN or infinite, "
                f"the first at [batch, channel, *axes] = {bad[0].tolist()}"
            )
