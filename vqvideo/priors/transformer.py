"""The `transformer` prior: causal attention to every earlier code, for any rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqvideo.cond import CondSpec
from vqvideo.nets.attention import AttentionNet
from vqvideo.nets.attention_state import AttentionState
from vqvideo.priors.base import PRIORS
from vqvideo.priors.network import NetworkPrior


class TransformerPrior(NetworkPrior):
    """Prior of an embedding, a causal transformer and a head.

    It attends to all earlier positions, so its time and memory grow with the grid; a grid may
    have at most `max_positions` positions.

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        width: channels.
        num_layers: number of transformer blocks.
        num_heads: attention heads per block; see `AttentionNet`.
        max_positions: maximum number of positions of a grid; a larger grid raises `ValueError`.
        dropout: dropout rate in training.
        num_codebooks: s, codes per position.
        cond: conditions that the prior accepts.
    """

    net: AttentionNet

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int = 1,
        width: int,
        num_layers: int,
        num_heads: int,
        max_positions: int,
        dropout: float = 0.0,
        cond: CondSpec | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            num_codebooks=num_codebooks,
            width=width,
            cond=cond,
            build_net=lambda cond_width: AttentionNet(
                rank=rank,
                width=width,
                num_layers=num_layers,
                num_heads=num_heads,
                max_positions=max_positions,
                cond_width=cond_width,
                dropout=dropout,
            ),
        )

    def forward_features(self, embeddings: Tensor, cond: Tensor | None) -> Tensor:
        grid = tuple(embeddings.shape[1:-1])
        return self.net(embeddings.flatten(1, -2), grid, cond).unflatten(1, grid)  # type: ignore[no-any-return]

    def init_incremental_state(
        self, batch: int, grid: tuple[int, ...], cond: Tensor | None, num_steps: int | None
    ) -> AttentionState:
        return AttentionState(self.net, batch, grid, cond, num_steps)


@PRIORS.register("transformer")
def transformer(
    *,
    rank: int,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 256,
    num_layers: int = 8,
    num_heads: int = 4,
    dropout: float = 0.1,
    max_positions: int = 4096,
    cond: CondSpec | Mapping[str, Any] | None = None,
) -> TransformerPrior:
    """Build a transformer over codes as in VideoGPT (Yan et al. 2021, arXiv 2104.10157), with
    rotary position embeddings along each axis of the grid.

    Every position attends to all earlier positions, where the convolutional priors are limited to
    a neighbourhood. The cost of a grid grows with the square of its number of positions.

    Args:
        rank: 1, 2 or 3.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: number of transformer blocks.
        num_heads: attention heads per block; width / num_heads must be even and at least 2 rank.
        dropout: dropout rate in training.
        max_positions: maximum number of positions of a grid; a larger grid raises `ValueError`.
            It does not change the weights.
        cond: conditions that the prior accepts.
    """
    return TransformerPrior(
        rank=rank,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        max_positions=max_positions,
        dropout=dropout,
        cond=cond,
    )
