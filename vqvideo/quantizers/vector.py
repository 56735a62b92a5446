"""The `vector` quantizer: a codebook trained by gradient (van den Oord et al. 2017, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqvideo.quantizers.base import QUANTIZERS
from vqvideo.quantizers.codebook import CodebookQuantizer, _mean_square


@QUANTIZERS.register("vector")
class VectorQuantizer(CodebookQuantizer):
    """Nearest-code quantizer whose entries are parameters.

    The second term of eq. 3, ||sg[z_e] - e||^2, is returned as `codebook_loss` and pulls each
    entry towards the vectors it wins; the optimizer moves it. `step()` only counts how much each
    entry is used and revives dead ones.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the length of an entry.
        revive_below: an entry is dead when it wins fewer than this share of the mean number of
            vectors per entry; it is replaced by a vector of the batch. 0 turns revival off.
        auto_step: call `step()` inside a training forward. A training loop that accumulates
            gradients sets this to False and calls `step()` after each optimizer step.

    >>> quantizer = VectorQuantizer(codebook_size=8, code_dim=4).eval()
    >>> quantizer(torch.zeros(2, 4, 3, 5)).codes.shape
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        revive_below: float = 0.02,
        auto_step: bool = True,
    ) -> None:
        super().__init__(
            codebook_size=codebook_size,
            code_dim=code_dim,
            revive_below=revive_below,
            auto_step=auto_step,
        )
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim))

    def _codebook_loss(self, vectors: Tensor, nearest: Tensor) -> Tensor:
        return _mean_square(nearest - vectors)

    def _move(self, counts: Tensor, sums: Tensor) -> None:
        """Nothing: the optimizer has moved the entries by the gradient of the codebook loss."""

    def _place(self, entries: Tensor, vectors: Tensor, load: Tensor) -> None:
        self.codebook.data[entries] = vectors
