"""The `wavenet` prior: dilated causal convolutions over a sequence of codes (rank 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, require_rank
from vqvideo.priors.causal import MAX_LAYERS, CausalPrior


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
    """Build a WaveNet over codes (van den Oord et al. 2016, arXiv 1609.03499).

    The kernel size is 2. The first layer sees the previous code. In the layers after it the
    dilation doubles from layer to layer, 1, 2, 4, ..., and restarts at 1 after `dilation_cycle`
    layers. 20 layers in cycles of 10 have a receptive field of 1,535 codes, without gaps.

    Args:
        rank: 1; any other rank raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: number of layers.
        dilation_cycle: number of layers after which dilations restart at 1.
        dropout: dropout rate in training.
        cond: conditions that the prior accepts.
    """
    require_rank("wavenet", rank, 1)
    if not 1 <= num_layers <= MAX_LAYERS:
        raise ValueError(f"num_layers must be 1 to {MAX_LAYERS}, got {num_layers}")
    return CausalPrior(
        rank=1,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        kernel_radii=(1,) * num_layers,
        dilations=[1] + [2 ** (layer % dilation_cycle) for layer in range(num_layers - 1)],
        dropout=dropout,
        cond=cond,
    )
