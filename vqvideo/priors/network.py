"""Base class of priors that consist of an embedding, a network and a head.

Codes are embedded, the network computes the features of each position from earlier positions, and
a small position-wise head computes the logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.incremental import NetworkState
from vqvideo.nets.conditioning import CondEmbedding
from vqvideo.nets.head import CodeHead
from vqvideo.priors.base import Prior


def embed_codes(table: nn.Embedding, codes: Tensor) -> Tensor:
    """Return the sum `[..., width]` of the embeddings of codes `[..., s]`.

    The table holds the entries of all codebooks, one codebook after another.
    """
    num_codebooks = codes.shape[-1]
    if num_codebooks == 1:
        return table(codes[..., 0].long())  # type: ignore[no-any-return]
    offsets = torch.arange(num_codebooks, device=codes.device) * (
        table.num_embeddings // num_codebooks
    )
    return table(codes + offsets).sum(dim=-2)  # type: ignore[no-any-return]


class NetworkPrior(Prior):
    """Prior of an embedding, a network and a head.

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels of embedding, network and features.
        cond: conditions that the prior accepts.
        build_net: builds the network, a `CausalNet` or an `AttentionNet`, given the channels of
            the embedded condition; 0 for none.
        coordinates: whether to condition every position on its row and column, scaled to [-1, 1].
    """

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int,
        width: int,
        cond: CondSpec | Mapping[str, Any] | None,
        build_net: Callable[[int], nn.Module],
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec.from_config(cond)
        self.num_codebooks = num_codebooks
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        is_conditional = not self.cond.is_empty
        self.cond_embedding = CondEmbedding(self.cond, rank, width) if is_conditional else None
        self.net = build_net(width if is_conditional or coordinates else 0)
        self.head = CodeHead(width, codebook_size, num_codebooks)
        self.coord_embedding = nn.Linear(2, width, bias=False) if coordinates else None

    @abstractmethod
    def forward_features(self, embeddings: Tensor, cond: Tensor | None) -> Tensor:
        """Return the features `[b, *grid, width]` of each position from the embeddings
        `[b, *grid, width]` of earlier positions and the embedded condition
        `[b, width, t|1, h|1, w|1]`.
        """

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        codes = self._check_codes(codes)
        stacked = codes if self.num_codebooks > 1 else codes[..., None]  # [b, *grid, s]
        embedded_cond = self.embed_cond(cond, len(codes), tuple(stacked.shape[1:-1]))
        features = self.forward_features(self.embed(stacked), embedded_cond)
        logits = self.head(features, stacked)  # [b, *grid, s, K]
        return logits.movedim(-1, 1).reshape(len(codes), self.codebook_size, *codes.shape[1:])  # type: ignore[no-any-return]

    def embed(self, codes: Tensor) -> Tensor:
        """Return the network's input `[..., width]` for codes `[..., s]`: the sum of their
        embeddings, with a separate embedding for each codebook.
        """
        return embed_codes(self.embedding, codes)

    def embed_cond(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None:
        """Return the embedded condition of a grid, `[b, width, t|1, h|1, w|1]`, or None."""
        embedded = None
        if cond is not None and self.cond_embedding is not None:
            embedded = self.cond_embedding(cond.to(self.device), batch, grid)
        elif cond is not None:
            cond.check(self.cond, batch, grid)  # raises unless the condition is empty
        if self.coord_embedding is None:
            return embedded
        weight = self.coord_embedding.weight
        axes = [torch.linspace(-1, 1, n, dtype=weight.dtype, device=weight.device) for n in grid]
        coords = torch.stack(torch.meshgrid(axes[-2:], indexing="ij"), dim=-1)
        coord_map: Tensor = rearrange(self.coord_embedding(coords), "h w e -> 1 e 1 h w")
        zero: Tensor = coord_map.new_zeros(batch, 1, 1, 1, 1)
        return coord_map + (zero if embedded is None else embedded)

    def init_state(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> NetworkState:
        return NetworkState(self, batch, grid, cond)
