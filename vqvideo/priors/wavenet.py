"""The `wavenet` prior: dilated causal convolutions over a sequence of codes (rank 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, one_rank_only
from vqvideo.priors.causal import CausalPrior


@PRIORS.register("wavenet")
def wavenet(
    *,
    rank: int = 1,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 128,
    num_layers: int = 20,
    dilation_cycle: int = 10,
    dropout: float = 0.0,
    cond: CondSpec | Mapping[str, Any] | None = None,
) -> CausalPrior:
    """WaveNet over codes (van den Oord et al. 2016, arXiv 1609.03499).

    Kernels of two positions. The first layer sees the code before; from there the dilation
    doubles from layer to layer, 1, 2, 4, ..., and starts again after `dilation_cycle` layers.
    20 layers in cycles of 10 see every one of the last 1,535 codes.

    Args:
        rank: 1; another raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: of the causal core.
        dilation_cycle: layers after which dilations start from 1 again.
        dropout: in training.
        cond: what the prior can be told.
    """
    one_rank_only("wavenet", rank, 1)
    return CausalPrior(
        rank=1,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        reaches=(1,) * num_layers,
        dilations=[1] + [2 ** (layer % dilation_cycle) for layer in range(num_layers - 1)],
        dropout=dropout,
        cond=cond,
    )
