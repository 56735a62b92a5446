"""The `vqvae` prior: a VQ-VAE over codes, so that few latent codes say what a whole grid is about.

    codes -> embedding -> encoder -> quantizer -> latents, a smaller grid, with a prior `top`
                                                    |
    codes <- prior `bottom`, told at each position <- decoder

The second stage of section 4.2 of van den Oord et al. 2017 is this with three latents for a whole
image; a hierarchy of two levels is this with a grid of them. Its `top` may be such a prior again:
levels are a matter of options. The bottom prior is an autoregressive decoder. Nothing pulls the
latents towards their prior, so it does not learn to do without them (no posterior collapse).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import check_strides, downsampling, grid_shape
from vqvideo.modes import evaluating
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.priors.base import PRIORS, Prior, default_prior
from vqvideo.priors.network import embedded
from vqvideo.quantizers import QUANTIZERS, Quantized
from vqvideo.sampling import FilterOptions, generate

COMMITMENT_WEIGHT = 0.25  # beta of eq. 3, as everywhere in the paper
SEED_APART = 7_368_787  # latents and codes must not be drawn from the same noise


@PRIORS.register("vqvae")
class VQVAEPrior(Prior):
    """Latents of their own prior, then codes told the latents.

    `log_prob` is a lower bound, log p(codes | latents) + log p(latents) of the latents that the
    encoder gives (section 3.2).

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        num_codebooks: s, codes per position.
        strides: of the latents, in codes: one tuple per level, one stride per axis. Where they
            multiply to the size of the grid, the latents are global.
        width: channels of embedding, encoder and decoder.
        quantizer: of the latents: a registered name and its options; `product` for several latents
            at each position of their grid.
        bottom: the prior over codes: a registered one that takes `local`; by default the one for
            the rank.
        top: the prior over latents, likewise.
        cond: what the latents' prior is told, classes or speakers; the codes follow the latents.

    >>> prior = VQVAEPrior(rank=2, codebook_size=16, strides=((2, 3), (2, 1)), width=8).eval()
    >>> prior.latents(torch.zeros(1, 8, 6, dtype=torch.long)).shape
    torch.Size([1, 2, 2])
    """

    exact_likelihood: ClassVar[bool] = False
    endless = False

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int = 1,
        strides: Sequence[Sequence[int]],
        width: int = 64,
        quantizer: Mapping[str, Any] | None = None,
        bottom: Mapping[str, Any] | None = None,
        top: Mapping[str, Any] | None = None,
        cond: CondSpec | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.num_codebooks = rank, codebook_size, num_codebooks
        self.cond = CondSpec.of(cond)
        if self.cond.takes_actions or self.cond.local_channels:
            raise ValueError("the vqvae prior can be told classes and speakers, nothing else")
        levels = check_strides(rank, strides)
        self.downsampling = downsampling(levels)
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        options = dict(quantizer or {})
        self.quantizer = QUANTIZERS.build(options.pop("name", "ema"), options)
        shared = {"rank": rank, "strides": levels, "z_channels": self.quantizer.z_channels}
        # Networks that begin as a linear map, or the codes would learn to do without the latents
        # before these say anything.
        options = {"widths": (width,) * len(levels), "num_blocks": (1,) * len(levels)}
        self.encoder = ENCODERS.build("patchify", options, channels=width, **shared)
        self.decoder = DECODERS.build("patchify", options, channels=width, **shared)
        told = CondSpec(local_channels=width, dropout=0.0)
        self.bottom = _prior(rank, codebook_size, num_codebooks, told, bottom)
        if self.bottom.drawn_from is not self.bottom:
            raise ValueError("bottom draws codes given latents; levels are stacked by top")
        size, several = self.quantizer.codebook_size, self.quantizer.num_codebooks
        self.top = _prior(rank, size, several, self.cond, top)

    @property
    def drawn_from(self) -> Prior:
        return self.bottom

    def forward(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Eq. 3 per code, the bottom prior as the decoder, and what the top one needs for the
        latents. All terms are sums over what stands for an item, so that few latents for many codes
        are not tied to their codebook before it pays to tell anything apart.
        """
        quantized = self._quantized(codes)
        nats = self.bottom(codes, self._told(quantized.z_q))
        latents = self.top(quantized.codes, cond) * (quantized.codes.numel() / codes.numel())
        loss = quantized.codebook_loss + COMMITMENT_WEIGHT * quantized.commitment_loss
        return nats + latents + loss * (quantized.z_q.numel() / codes.numel())  # type: ignore[no-any-return]

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Given the latents of these very codes, which have seen all of them."""
        with evaluating(self.quantizer):
            quantized = self._quantized(codes)
        return self.bottom.logits(codes, self._told(quantized.z_q))

    def log_prob(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """The bound, `[b]` in nats: codes given their latents, and the latents."""
        with evaluating(self.quantizer):  # only `forward` teaches it
            quantized = self._quantized(codes)
        nats = self.bottom.log_prob(codes, self._told(quantized.z_q))
        return nats + self.top.log_prob(quantized.codes, cond)

    @torch.no_grad()
    def latents(self, codes: Tensor) -> Tensor:
        """Latent codes int64 `[b, *smaller grid(, s)]` of codes `[b, *grid(, s)]`. Moves no
        codebook.
        """
        with evaluating(self):
            return self._quantized(codes).codes

    @torch.no_grad()
    def draw_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond:
        apart = seed + SEED_APART if isinstance(seed, int) else [each + SEED_APART for each in seed]
        smaller, top_k = grid_shape(grid, self.downsampling), options.get("top_k")
        if top_k is not None:
            options["top_k"] = min(top_k, self.top.codebook_size)
        latents = generate(self.top, smaller, batch=batch, cond=cond, seed=apart, **options)
        return self._told(self.quantizer.decode(latents))

    def _quantized(self, codes: Tensor) -> Quantized:
        self._check(codes)
        grid_shape(tuple(codes.shape[1 : 1 + self.rank]), self.downsampling)
        each = codes if self.num_codebooks > 1 else codes[..., None]
        vectors = embedded(self.embedding, each).movedim(-1, 1)
        return self.quantizer(self.encoder(vectors))  # type: ignore[no-any-return]

    def _told(self, z_q: Tensor) -> Cond:
        """Each code told its part of the latents, as strongly as the latents are."""
        return Cond(local=self.decoder(z_q) * math.prod(self.downsampling) ** 0.5)


def _prior(
    rank: int,
    codebook_size: int,
    num_codebooks: int,
    cond: CondSpec,
    part: Mapping[str, Any] | None,
) -> Prior:
    options = dict(part or {})
    name = options.pop("name", default_prior(rank))
    given: dict[str, Any] = {} if cond.is_empty else {"cond": cond}
    if num_codebooks > 1 or PRIORS.takes(name, "num_codebooks"):
        given["num_codebooks"] = num_codebooks
    return PRIORS.build(name, options, rank=rank, codebook_size=codebook_size, **given)
