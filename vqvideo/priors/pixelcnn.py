"""The `pixelcnn` prior: a gated PixelCNN over a grid of codes (rank 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, one_rank_only
from vqvideo.priors.causal import CausalPrior, reaches


@PRIORS.register("pixelcnn")
def pixelcnn(
    *,
    rank: int = 2,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 96,
    num_layers: int = 15,
    first_kernel: int = 7,
    kernel: int = 3,
    dropout: float = 0.0,
    cond: CondSpec | Mapping[str, Any] | None = None,
    coordinates: bool = False,
) -> CausalPrior:
    """Gated PixelCNN over codes (van den Oord et al. 2016, arXiv 1606.05328).

    Two stacks, so nothing above and to the right is hidden. With S the sum of kernel // 2 over
    the layers, a position sees S + 1 rows up, S columns to each side there, and S columns to its
    left; 15 layers with the default kernels give S = 17, which covers a grid of 18 x 18.

    Args:
        rank: 2; another raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: of the causal core.
        first_kernel: width of the first layer's kernel; odd.
        kernel: width of the other layers' kernels; odd.
        dropout: in training.
        cond: what the prior can be told.
        coordinates: whether every position is told its row and column; see `CausalPrior`.
    """
    one_rank_only("pixelcnn", rank, 2)
    return CausalPrior(
        rank=2,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        reaches=reaches(first_kernel, kernel, num_layers),
        dilations=(1,) * num_layers,
        dropout=dropout,
        cond=cond,
        coordinates=coordinates,
    )
