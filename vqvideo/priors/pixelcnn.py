"""The `pixelcnn` prior: a gated PixelCNN over a grid of codes (rank 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, require_rank
from vqvideo.priors.causal import CausalPrior, compute_kernel_radii


@PRIORS.register("pixelcnn")
def pixelcnn(
    *,
    rank: int = 2,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 96,
    num_layers: int = 15,
    first_kernel_size: int = 7,
    kernel_size: int = 3,
    dropout: float = 0.0,
    cond: CondSpec | Mapping[str, Any] | None = None,
    coordinates: bool = False,
) -> CausalPrior:
    """Build a gated PixelCNN over codes (van den Oord et al. 2016, arXiv 1606.05328).

    Two stacks avoid the blind spot above and to the right. With S the sum of kernel_size // 2
    over the layers, the receptive field of a position is S + 1 rows above, with S columns to each
    side, and S columns to the left in its own row. 15 layers with the default kernel sizes give
    S = 17, which covers a grid of 18 x 18.

    Args:
        rank: 2; any other rank raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: number of layers.
        first_kernel_size: kernel size of the first layer; odd.
        kernel_size: kernel size of the other layers; odd.
        dropout: dropout rate in training.
        cond: conditions that the prior accepts.
        coordinates: whether to condition every position on its row and column; see `CausalPrior`.
    """
    require_rank("pixelcnn", rank, 2)
    return CausalPrior(
        rank=2,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        kernel_radii=compute_kernel_radii(first_kernel_size, kernel_size, num_layers),
        dilations=(1,) * num_layers,
        dropout=dropout,
        cond=cond,
        coordinates=coordinates,
    )
