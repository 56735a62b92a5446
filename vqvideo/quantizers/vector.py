"""The `vector` quantizer: a codebook trained by gradient (van den Oord et al. 2017, eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.quantizers.base import QUANTIZERS
from vqvideo.quantizers.codebook import CodebookInit, CodebookQuantizer


@QUANTIZERS.register("vector")
class VectorQuantizer(CodebookQuantizer):
    """Nearest-neighbor quantizer whose entries are parameters.

    The second term of eq. 3, ||sg[z_e] - e||^2, is returned as `codebook_loss`; its gradient
    moves each entry towards the vectors assigned to it. `update_codebook()` only counts how often
    entries are used, initializes the codebook and revives dead entries. A training loop calls it
    after the optimizer step, which would otherwise move revived entries. Start a weight average
    after the initialization, or it includes entries from before.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the dimension of an entry.
        z_channels: channels of z_e and z_q; None means code_dim. Any other number is projected to
            code_dim and back by learned linear layers; losses are computed in code_dim.
        cosine: choose by cosine similarity: z_e and entries are L2-normalized first.
        init: initialization of the codebook: "data", vectors of a step, or "kmeans", centres of
            clusters of such vectors.
        warmup_steps: training steps, at least 1, in which z_e passes unquantized; the codebook is
            initialized in the last of them.
        dead_code_threshold: an entry is dead if it gets less than this fraction of the mean
            number of vectors per entry; it is replaced by a vector of the step. 0 disables
            revival.

    >>> quantizer = VectorQuantizer(codebook_size=8, code_dim=4).eval()
    >>> quantizer(torch.zeros(2, 4, 3, 5)).codes.shape
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        z_channels: int | None = None,
        cosine: bool = False,
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
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim))

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        if self.training and self.is_warming_up:
            return 0 * entries.sum()  # zero, since DDP raises for parameters without a gradient
        nearest = F.embedding(codes, entries)
        return F.mse_loss(nearest, vectors, reduction="sum") / max(vectors.numel(), 1)

    def _update_entries(self, cluster_size: Tensor, embed_sum: Tensor) -> None:
        """Do nothing: the optimizer updates the entries with the gradient of the codebook loss."""

    def _replace_entries(self, indices: Tensor, vectors: Tensor, cluster_size: Tensor) -> None:
        self.codebook.data[indices] = vectors
