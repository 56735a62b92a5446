"""A prior for vqvideo: one recurrent network over all codes in raster order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior


class MyPrior(Prior):
    """A GRU that reads the codes one after the other; any rank, told nothing else.

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        width: channels.
    """

    def __init__(self, *, rank: int, codebook_size: int, width: int = 64) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.embedding = nn.Embedding(codebook_size + 1, width)  # the last stands before all codes
        self.net = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, codebook_size)

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Logits `[b, K, *grid]` of every code, given those before it in raster order."""
        self._check(codes)
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))  # raises: it takes nothing
        start = torch.full_like(codes.flatten(1)[:, :1], self.codebook_size)
        before = torch.cat([start, codes.flatten(1)[:, :-1]], dim=1)
        logits: Tensor = self.head(self.net(self.embedding(before))[0])
        return logits.movedim(-1, 1).reshape(len(codes), self.codebook_size, *codes.shape[1:])
