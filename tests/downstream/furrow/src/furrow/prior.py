"""The `furrow` prior: it reads the rows above as an ox ploughs, there and back again.

Codes are drawn in raster order, as from every prior. In which order a prior reads those that are
already there is its own affair: here one recurrent network goes over the finished rows, every
other one backwards, so that it never jumps from the end of a row to the far end of the next. A
second one goes along the row that is being drawn and begins with what the first one remembers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import Prior


class FurrowPrior(Prior):
    """Two GRUs over grids of any rank: a grid of rank 3 is as many rows as its frames have.

    Each code sees all codes before it. There is no step-by-step state, so `generate` works out
    all logits for every code it draws, which is fine for some hundred codes.

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        width: channels.
    """

    def __init__(self, *, rank: int, codebook_size: int, width: int = 64) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.embedding = nn.Embedding(codebook_size, width)
        self.first = nn.Parameter(torch.zeros(width))  # what stands before the first code of a row
        self.plough = nn.GRU(width, width, batch_first=True)
        self.along = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, codebook_size)

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        self._check_codes(codes)
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))  # raises: it takes nothing
        batch, columns, width = len(codes), codes.shape[-1], len(self.first)
        rows = self.embedding(codes).reshape(batch, -1, columns, width)
        memory = self.first.new_zeros(1, batch, width)
        features = []
        for number, row in enumerate(rows.unbind(1)):
            before = torch.cat([self.first.expand(batch, 1, width), row[:, :-1]], dim=1)
            features.append(self.along(before, memory)[0])
            memory = self.plough(row.flip(1) if number % 2 else row, memory)[1]
        logits = self.head(torch.stack(features, dim=1))
        return logits.movedim(-1, 1).reshape(batch, self.codebook_size, *codes.shape[1:])
