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
    """Embedding, causal transformer, head. It sees everything earlier, so its time and memory grow
    with the grid: no grid may have more positions than `max_positions`.

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        width: channels.
        num_layers: transformer blocks.
        num_heads: of each block; see `AttentionNet`.
        max_positions: of a grid; a larger one raises `ValueError`.
        dropout: in training.
        num_codebooks: s, codes per position.
        cond: what the prior can be told.
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
            net=lambda cond_width: AttentionNet(
                rank=rank,
                width=width,
                num_layers=num_layers,
                num_heads=num_heads,
                max_positions=max_positions,
                cond_width=cond_width,
                dropout=dropout,
            ),
        )

    def features(self, embedded: Tensor, told: Tensor | None) -> Tensor:
        grid = tuple(embedded.shape[1:-1])
        return self.net(embedded.flatten(1, -2), grid, told).unflatten(1, grid)  # type: ignore[no-any-return]

    def walk(
        self, batch: int, grid: tuple[int, ...], told: Tensor | None, steps: int | None
    ) -> AttentionState:
        return AttentionState(self.net, batch, grid, told, steps)


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
    """Transformer over codes, as VideoGPT has (Yan et al. 2021, arXiv 2104.10157), with rotary
    positions along each axis of the grid.

    Every position sees all earlier ones, however far, where the convolutional priors see a
    neighbourhood; the work of a grid grows with the square of its positions.

    Args:
        rank: 1, 2 or 3.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: transformer blocks.
        num_heads: of each block; width / num_heads must be even and at least 2 rank.
        dropout: in training.
        max_positions: of a grid; a larger one raises `ValueError`. It changes no weight.
        cond: what the prior can be told.
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
