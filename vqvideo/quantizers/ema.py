"""The `ema` quantizer: a codebook that follows its vectors by a moving average.

No gradient reaches the codebook: each entry tracks the mean of the encoder vectors it wins
(van den Oord et al. 2017, appendix A.1, eq. 6 to 8), so only the commitment loss reaches the
optimizer. Statistics move in training mode only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.quantizers.base import QUANTIZERS
from vqvideo.quantizers.codebook import CodebookQuantizer, Start

SMALL = 1e-5  # vectors; an entry that wins nothing for long stays where it is


@QUANTIZERS.register("ema")
class EMAQuantizer(CodebookQuantizer):
    """Nearest-code quantizer whose entries are moving averages.

    With n_i the number of vectors that entry i won in a step and s_i their sum,
    N_i <- gamma N_i + (1 - gamma) n_i, m_i <- gamma m_i + (1 - gamma) s_i, e_i <- m_i / N_i; the
    quotient is (m_i + eps e_i) / (N_i + eps) with eps = 1e-5, so that an entry whose N_i has run
    out stays where it is.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the length of an entry.
        z_channels: channels of z_e and z_q; None is code_dim. Any other number is brought to
            code_dim and back by learned linear layers, and losses are taken between.
        cosine: choose by angle: z_e and entries are brought to length 1 first.
        ema_decay: gamma in [0, 1); the paper uses 0.99.
        start: from what the codebook starts: "data", vectors of a step, or "kmeans", the centres
            of clusters of them.
        warmup_steps: training steps, at least 1, in which z_e passes unquantized; the last of
            them starts the codebook.
        revive_below: an entry is dead when it wins fewer than this share of the mean number of
            vectors per entry; it is replaced by a vector of the step, and its N_i and m_i are
            reset with it. 0 turns revival off.

    >>> quantizer = EMAQuantizer(codebook_size=8, code_dim=4).eval()
    >>> quantizer(torch.zeros(2, 4, 3)).codes.shape
    torch.Size([2, 3])
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        z_channels: int | None = None,
        cosine: bool = False,
        ema_decay: float = 0.99,
        start: Start = "data",
        warmup_steps: int = 1,
        revive_below: float = 0.02,
    ) -> None:
        super().__init__(
            codebook_size=codebook_size,
            code_dim=code_dim,
            z_channels=z_channels,
            cosine=cosine,
            start=start,
            warmup_steps=warmup_steps,
            revive_below=revive_below,
        )
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
        self.ema_decay = ema_decay
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim))
        self.register_buffer("counts", torch.zeros(codebook_size))
        self.register_buffer("sums", torch.zeros(codebook_size, code_dim))

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        return torch.zeros((), device=vectors.device)

    def _move(self, counts: Tensor, sums: Tensor) -> None:
        self.counts.lerp_(counts, 1 - self.ema_decay)
        self.sums.lerp_(sums, 1 - self.ema_decay)
        self.codebook.mul_(SMALL).add_(self.sums).div_((self.counts + SMALL)[:, None])

    def _place(self, entries: Tensor, vectors: Tensor, load: Tensor) -> None:
        self.codebook[entries] = vectors
        self.counts[entries] = load
        self.sums[entries] = vectors * load[:, None]
