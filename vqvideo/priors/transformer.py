"""The `transformer` prior: causal attention to every earlier code, for any rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqvideo.cond import CondSpec
from vqvideo.nets.attention import AttentionNet
from vqvideo.priors.base import PRIORS
from vqvideo.priors.network import NetworkPrior


@PRIORS.register("transformer")
class TransformerPrior(NetworkPrior):
    """A transformer over codes as in VideoGPT (Yan et al. 2021, arXiv 2104.10157), with rotary
    position embeddings along each axis of the grid.

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

    net: AttentionNet

    def __init__(
        self,
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


transformer = TransformerPrior
