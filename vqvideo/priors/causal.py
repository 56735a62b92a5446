"""The prior that WaveNet, PixelCNN and the masked 3D convolution have in common.

Codes are embedded, the causal core turns them into features of each position from earlier ones,
and a small head that works position by position gives the logits. The three published priors are
this one with their rank and their defaults (wavenet.py, pixelcnn.py, masked3d.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.nets.causal import CausalNet
from vqvideo.nets.causal_state import CausalState
from vqvideo.nets.cond import CondEmbedding
from vqvideo.priors.base import Prior
from vqvideo.priors.head import CodeHead, HeadStep


class CausalPrior(Prior):
    """Embedding, causal core, head.

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        width: channels of the core.
        reaches: how far each layer looks; see `CausalLayer`.
        dilations: of each layer.
        time_kernel: frames each layer's time stack sees.
        dropout: in training.
        num_codebooks: s, codes per position.
        cond: what the prior can be told.
    """

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int = 1,
        width: int,
        reaches: Sequence[int],
        dilations: Sequence[int],
        time_kernel: int = 2,
        dropout: float = 0.0,
        cond: CondSpec | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec.of(cond)
        self.num_codebooks = num_codebooks
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        conditioned = not self.cond.is_empty
        self.cond_embedding = CondEmbedding(self.cond, rank, width) if conditioned else None
        self.net = CausalNet(
            rank=rank,
            width=width,
            reaches=reaches,
            dilations=dilations,
            time_kernel=time_kernel,
            cond_width=width if conditioned else 0,
            dropout=dropout,
        )
        self.receptive_field = self.net.receptive_field
        self.head = CodeHead(width, codebook_size, num_codebooks)

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        self._check(codes)
        each = codes if self.num_codebooks > 1 else codes[..., None]
        told = self.tell(cond, len(codes), tuple(each.shape[1:-1]))
        features = self.net(self.embed(each).movedim(-1, 1), told)
        logits = self.head(features.movedim(1, -1), each)  # [b, *grid, s, K]
        return logits.movedim(-1, 1).reshape(len(codes), -1, *codes.shape[1:])  # type: ignore[no-any-return]

    def embed(self, codes: Tensor) -> Tensor:
        """What the core gets `[..., width]` for the codes `[..., s]` of positions: the sum of
        their embeddings, each codebook with its own.
        """
        if self.num_codebooks == 1:
            return self.embedding(codes[..., 0])  # type: ignore[no-any-return]
        first = torch.arange(self.num_codebooks, device=codes.device) * self.codebook_size
        return self.embedding(codes + first).sum(dim=-2)  # type: ignore[no-any-return]

    def start(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> CausalPriorState:
        if len(grid) != self.rank:
            raise ValueError(f"grid must have {self.rank} grid axes, got {grid}")
        return CausalPriorState(self, batch, grid, cond)

    def tell(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None:
        """What the core is told of a grid, `[b, width, t|1, h|1, w|1]`."""
        if cond is None:
            return None
        if self.cond_embedding is None:
            cond.check(self.cond, batch, grid)  # raises unless it is empty
            return None
        return self.cond_embedding(cond.to(self.device), batch, grid)  # type: ignore[no-any-return]


def reaches(first_kernel: int, kernel: int, num_layers: int) -> list[int]:
    """How far each layer looks to either side, from the widths of (odd) kernels.

    >>> reaches(first_kernel=5, kernel=3, num_layers=4)
    [2, 1, 1, 1]
    """
    if num_layers < 1 or first_kernel < 3 or kernel < 3 or not first_kernel % 2 == kernel % 2 == 1:
        raise ValueError(
            f"kernels must be odd and at least 3, num_layers at least 1; "
            f"got {first_kernel}, {kernel} and {num_layers}"
        )
    return [first_kernel // 2] + [kernel // 2] * (num_layers - 1)


class CausalPriorState:
    """The step-by-step form of a `CausalPrior`; see `vqvideo.sampling.PriorState`."""

    def __init__(
        self, prior: CausalPrior, batch: int, grid: tuple[int, ...], cond: Cond | None
    ) -> None:
        self.prior, self.batch, self.inner = prior, batch, tuple(grid[1:])
        self.net = CausalState(prior.net, batch, self.inner, prior.tell(cond, batch, grid))
        self.head, self.table = HeadStep(prior.head), prior.embedding.weight
        self.here: list[Tensor] = []  # codes of this position so far
        self.hidden: Tensor | None = None  # of this position, told the codes so far

    def logits(self) -> Tensor:
        head = self.head
        if self.hidden is None:
            self.hidden = head.hidden(self.net.features())
            for index, codes in enumerate(self.here):
                self.hidden = head.told(self.hidden, index, codes)
        return head.logits(self.hidden, len(self.here))

    def push(self, codes: Tensor) -> None:
        index = len(self.here)
        self.here.append(codes)
        if len(self.here) < self.prior.num_codebooks:
            if self.hidden is not None:
                self.hidden = self.head.told(self.hidden, index, codes)
            return
        if index == 0:
            self.net.push(self.table.index_select(0, codes))
        else:
            self.net.push(self.prior.embed(torch.stack(self.here, dim=-1)))
        self.here, self.hidden = [], None

    def prefill(self, codes: Tensor, positions: int) -> None:
        each = codes if self.prior.num_codebooks > 1 else codes[..., None]
        self.net.prefill(self.prior.embed(each).movedim(-1, 1), positions)

    def tell(self, cond: Cond | None, steps: int) -> None:
        self.net.tell(self.prior.tell(cond, self.batch, (steps, *self.inner)))
