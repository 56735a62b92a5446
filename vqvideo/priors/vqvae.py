"""The `vqvae` prior: a VQ-VAE over codes, in which few latent codes describe a whole grid.

    codes -> embedding -> encoder -> quantizer -> latents (a smaller grid) with the prior `top`
                                                     |
    codes <- prior `bottom`, conditioned locally <- decoder

With three latents for a whole image this is the second stage of section 4.2 of van den Oord et al.
2017; with a grid of latents it is a hierarchy of two levels. `top` may itself be a `vqvae` prior,
which adds a level. The bottom prior is an autoregressive decoder. The loss has no term that pulls
the latents towards their prior, so the decoder does not learn to ignore them (no posterior
collapse).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from vqvideo.arguments import offset_seeds
from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import check_strides, compute_downsampling, compute_grid_shape
from vqvideo.modes import eval_view
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.priors.base import PRIORS, Prior, get_default_prior
from vqvideo.priors.network import embed_codes
from vqvideo.quantizers import QUANTIZERS, Quantized
from vqvideo.sampling import FilterOptions, Order, generate

COMMITMENT_WEIGHT = 0.25  # beta of eq. 3, the value that the paper uses in all experiments
LATENT_SEED_OFFSET = 7_368_787  # latents and codes must not be sampled with the same noise


@PRIORS.register("vqvae")
class VQVAEPrior(Prior):
    """Hierarchical prior: latents from the prior `top`, then codes conditioned on the latents.

    `log_prob` is a lower bound: log p(codes | latents) + log p(latents), with the latents of the
    encoder (section 3.2).

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        num_codebooks: s, codes per position.
        strides: strides of the latents, in codes: one tuple per level, one stride per axis. If
            their product is the size of the grid, the latents are global.
        width: channels of embedding, encoder and decoder.
        quantizer: quantizer of the latents: a registered name and its options; `product` gives
            several latents at each position.
        bottom: prior over codes: a registered prior that accepts the condition `local`, and its
            options; by default the default prior for the rank.
        top: prior over latents, likewise.
        cond: conditions of `top`: classes or speakers. Codes are conditioned on the latents only.

    >>> prior = VQVAEPrior(rank=2, codebook_size=16, strides=((2, 3), (2, 1)), width=8).eval()
    >>> prior.encode_latents(torch.zeros(1, 8, 6, dtype=torch.long)).shape
    torch.Size([1, 2, 2])
    """

    has_exact_likelihood: ClassVar[bool] = False
    is_unbounded = False

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
        self.cond = CondSpec.from_config(cond)
        if self.cond.has_actions or self.cond.local_channels:
            raise ValueError("the vqvae prior supports only class and speaker conditions")
        levels = check_strides(rank, strides)
        self.downsampling = compute_downsampling(levels)
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        options = dict(quantizer or {})
        self.quantizer = QUANTIZERS.build(options.pop("name", "ema"), options)
        shared = {"rank": rank, "strides": levels, "z_channels": self.quantizer.z_channels}
        # Networks that are initialized as a linear map: otherwise the bottom prior learns to
        # ignore the latents before they carry information.
        options = {"widths": (width,) * len(levels), "num_blocks": (1,) * len(levels)}
        self.encoder = ENCODERS.build("patchify", options, channels=width, **shared)
        self.decoder = DECODERS.build("patchify", options, channels=width, **shared)
        bottom_cond = CondSpec(local_channels=width, dropout=0.0)
        self.bottom = _build_prior(rank, codebook_size, num_codebooks, bottom_cond, bottom)
        if self.bottom.code_prior is not self.bottom:
            raise ValueError("bottom must be a prior without latents; use top to add levels")
        top_size, top_codebooks = self.quantizer.codebook_size, self.quantizer.num_codebooks
        self.top = _build_prior(rank, top_size, top_codebooks, self.cond, top)

    @property
    def code_prior(self) -> Prior:
        return self.bottom

    def order(self, shape: tuple[int, ...], seed: int = 0) -> Order:
        return self.bottom.order(shape, seed)

    def forward(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the loss of eq. 3 per code, with the bottom prior as the decoder, plus the NLL of
        the latents under the top prior.

        All terms are sums over an item, divided by its number of codes. With means instead, the
        losses of few latents for many codes would outweigh the NLL early in training.
        """
        quantized = self._quantize(codes)
        codes_nll = self.bottom(codes, self._build_cond(quantized.z_q))
        latents_nll = self.top(quantized.codes, cond) * (quantized.codes.numel() / codes.numel())
        vq_loss = quantized.codebook_loss + COMMITMENT_WEIGHT * quantized.commitment_loss
        return codes_nll + latents_nll + vq_loss * (quantized.z_q.numel() / codes.numel())  # type: ignore[no-any-return]

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the logits given the latents of these codes, which depend on all of them."""
        quantized = eval_view(self)._quantize(codes)
        return self.bottom.logits(codes, self._build_cond(quantized.z_q))

    def log_prob(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the lower bound in nats, `[b]`: codes given their latents, plus the latents."""
        quantized = eval_view(self)._quantize(codes)  # only `forward` updates the codebook
        log_prob = self.bottom.log_prob(codes, self._build_cond(quantized.z_q))
        return log_prob + self.top.log_prob(quantized.codes, cond)

    @torch.no_grad()
    def encode_latents(self, codes: Tensor) -> Tensor:
        """Return the latent codes, int64 `[b, *latent_grid(, s)]`, of codes `[b, *grid(, s)]`,
        without updating the codebook.
        """
        return eval_view(self)._quantize(codes).codes

    @torch.no_grad()
    def sample_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond:
        latent_seed = offset_seeds(seed, LATENT_SEED_OFFSET)
        latent_grid, top_k = compute_grid_shape(grid, self.downsampling), options.get("top_k")
        if top_k is not None:
            options["top_k"] = min(top_k, self.top.codebook_size)
        latents = generate(
            self.top, latent_grid, batch=batch, cond=cond, seed=latent_seed, **options
        )
        return self._build_cond(self.quantizer.decode(latents))

    def _quantize(self, codes: Tensor) -> Quantized:
        codes = self._check_codes(codes)
        compute_grid_shape(tuple(codes.shape[1 : 1 + self.rank]), self.downsampling)
        stacked = codes if self.num_codebooks > 1 else codes[..., None]
        embeddings = embed_codes(self.embedding, stacked).movedim(-1, 1)
        return self.quantizer(self.encoder(embeddings))  # type: ignore[no-any-return]

    def _build_cond(self, z_q: Tensor) -> Cond:
        """Return the local condition of each code: the decoded latents, scaled back to the
        magnitude of the latents.
        """
        return Cond(local=self.decoder(z_q) * math.prod(self.downsampling) ** 0.5)


def _build_prior(
    rank: int,
    codebook_size: int,
    num_codebooks: int,
    cond: CondSpec,
    config: Mapping[str, Any] | None,
) -> Prior:
    options = dict(config or {})
    name = options.pop("name", get_default_prior(rank))
    kwargs: dict[str, Any] = {} if cond.is_empty else {"cond": cond}
    if num_codebooks > 1 or PRIORS.has_option(name, "num_codebooks"):
        kwargs["num_codebooks"] = num_codebooks
    return PRIORS.build(name, options, rank=rank, codebook_size=codebook_size, **kwargs)
