"""The `vector` quantizer: a codebook trained by gradient (van den Oord et al. 2017, eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.quantizers.base import QUANTIZERS
from vqvideo.quantizers.codebook import CodebookQuantizer, Start


@QUANTIZERS.register("vector")
class VectorQuantizer(CodebookQuantizer):
    """Nearest-code quantizer whose entries are parameters.

    The second term of eq. 3, ||sg[z_e] - e||^2, is returned as `codebook_loss` and pulls each
    entry towards the vectors it wins; the optimizer moves it. `step()` only counts how much each
    entry is used, starts the codebook and revives dead entries. A loop calls it after the
    optimizer, which knows nothing of a revival; and whoever averages weights begins after the
    start, since an average of the entries would remember those that were there before.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the length of an entry.
        z_channels: channels of z_e and z_q; None is code_dim. Any other number is brought to
            code_dim and back by learned linear layers, and losses are taken between.
        cosine: choose by angle: z_e and entries are brought to length 1 first.
        start: from what the codebook starts: "data", vectors of a step, or "kmeans", the centres
            of clusters of them.
        warmup_steps: training steps, at least 1, in which z_e passes unquantized; the last of
            them starts the codebook.
        revive_below: an entry is dead when it wins fewer than this share of the mean number of
            vectors per entry; it is replaced by a vector of the step. 0 turns revival off.

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
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim))

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        if self.training and self.warming_up:
            return 0 * entries.sum()  # 0, but a parameter without a gradient stops DDP
        nearest = F.embedding(codes, entries)
        return F.mse_loss(nearest, vectors, reduction="sum") / max(vectors.numel(), 1)

    def _move(self, counts: Tensor, sums: Tensor) -> None:
        """Nothing: the optimizer has moved the entries by the gradient of the codebook loss."""

    def _place(self, entries: Tensor, vectors: Tensor, load: Tensor) -> None:
        self.codebook.data[entries] = vectors
