"""The `ema` quantizer: a codebook updated by exponential moving averages.

No gradient reaches the codebook: each entry tracks the mean of the encoder vectors assigned to it
(van den Oord et al. 2017, appendix A.1, eq. 6 to 8), so only the commitment loss reaches the
optimizer. Statistics are updated in training mode only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.quantizers.base import QUANTIZERS
from vqvideo.quantizers.codebook import CodebookInit, CodebookQuantizer

EPSILON = 1e-5  # in vectors; keeps an entry in place if no vectors are assigned to it for long


@QUANTIZERS.register("ema")
class EMAQuantizer(CodebookQuantizer):
    """Nearest-neighbor quantizer whose entries are moving averages.

    With n_i the number of vectors assigned to entry i in a step and s_i their sum,
    N_i <- gamma N_i + (1 - gamma) n_i, m_i <- gamma m_i + (1 - gamma) s_i, e_i <- m_i / N_i; the
    quotient is (m_i + eps e_i) / (N_i + eps) with eps = 1e-5, so that an entry stays in place
    when its N_i approaches zero.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the dimension of an entry.
        z_channels: channels of z_e and z_q; None means code_dim. Any other number is projected to
            code_dim and back by learned linear layers; losses are computed in code_dim.
        cosine: choose by cosine similarity: z_e and entries are L2-normalized first.
        ema_decay: gamma in [0, 1); the paper uses 0.99.
        init: initialization of the codebook: "data", vectors of a step, or "kmeans", centres of
            clusters of such vectors.
        warmup_steps: training steps, at least 1, in which z_e passes unquantized; the codebook is
            initialized in the last of them.
        dead_code_threshold: an entry is dead if it gets less than this fraction of the mean
            number of vectors per entry; it is replaced by a vector of the step, and its N_i and
            m_i are reset. 0 disables revival.

    >>> quantizer = EMAQuantizer(codebook_size=8, code_dim=4).eval()
    >>> quantizer(torch.zeros(2, 4, 3)).codes.shape
    torch.Size([2, 3])
    """

    cluster_size: Tensor
    embed_sum: Tensor

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        z_channels: int | None = None,
        cosine: bool = False,
        ema_decay: float = 0.99,
        init: CodebookInit = "data",
        warmup_steps: int = 1,
        dead_code_threshold: float = 0.02,
    ) -> None:
        super().__init__(
            codebook_size=codebook_size,
            code_dim=code_dim,
            z_channels=z_channels,
            cosine=cosine,
            init=init,
            warmup_steps=warmup_steps,
            dead_code_threshold=dead_code_threshold,
        )
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
        self.ema_decay = ema_decay
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim))
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        self.register_buffer("embed_sum", torch.zeros(codebook_size, code_dim))

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        return torch.zeros((), device=vectors.device)

    def _update_entries(self, cluster_size: Tensor, embed_sum: Tensor) -> None:
        self.cluster_size.lerp_(cluster_size, 1 - self.ema_decay)
        self.embed_sum.lerp_(embed_sum, 1 - self.ema_decay)
        self.codebook.mul_(EPSILON).add_(self.embed_sum).div_(
            (self.cluster_size + EPSILON)[:, None]
        )

    def _replace_entries(self, indices: Tensor, vectors: Tensor, cluster_size: Tensor) -> None:
        self.codebook[indices] = vectors
        self.cluster_size[indices] = cluster_size
        self.embed_sum[indices] = vectors * cluster_size[:, None]
