"""A prior for vqvideo: one recurrent network over all codes in raster order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior


class MyPrior(Prior):
    """A GRU over the codes in raster order, for any rank, without conditions.

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        width: hidden channels.
    """

    def __init__(self, *, rank: int, codebook_size: int, width: int = 64) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.embedding = nn.Embedding(codebook_size + 1, width)  # the last entry is the start token
        self.net = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, codebook_size)

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the logits `[b, K, *grid]` of every code given those before it in raster order."""
        codes = self._check_codes(codes)
        if cond is not None:
            cond.check(
                self.cond, len(codes), tuple(codes.shape[1:])
            )  # raises: the prior takes no conditions
        start = torch.full_like(codes.flatten(1)[:, :1], self.codebook_size)
        inputs = torch.cat([start, codes.flatten(1)[:, :-1]], dim=1)
        logits: Tensor = self.head(self.net(self.embedding(inputs))[0])
        return logits.movedim(-1, 1).reshape(len(codes), self.codebook_size, *codes.shape[1:])
