"""The `masked3d` prior: causal 3D convolutions over the codes of a clip (rank 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, require_rank
from vqvideo.priors.causal import CausalPrior, compute_kernel_radii


@PRIORS.register("masked3d")
def masked3d(
    *,
    rank: int = 3,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 96,
    num_layers: int = 8,
    first_kernel_size: int = 5,
    kernel_size: int = 3,
    time_kernel_size: int = 2,
    dropout: float = 0.1,
    cond: CondSpec | Mapping[str, Any] | None = None,
    coordinates: bool = False,
) -> CausalPrior:
    """Build a gated PixelCNN with a third stack for past frames.

    A raster-masked 3D kernel would have a blind spot in the past; three stacks of cropped kernels
    have none. With S the sum of kernel_size // 2 over L layers, the receptive field of a position
    is 1 + L (time_kernel_size - 1) frames back, in each of them the rows and columns within S (and
    one more row above), and in its own frame the receptive field of `pixelcnn`.

    Args:
        rank: 3; any other rank raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: L, number of layers.
        first_kernel_size: spatial kernel size of the first layer; odd.
        kernel_size: spatial kernel size of the other layers; odd.
        time_kernel_size: number of frames in each layer's time kernel.
        dropout: dropout rate in training.
        cond: conditions that the prior accepts.
        coordinates: whether to condition every position on its row and column; see `CausalPrior`.
    """
    require_rank("masked3d", rank, 3)
    return CausalPrior(
        rank=3,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        kernel_radii=compute_kernel_radii(first_kernel_size, kernel_size, num_layers),
        dilations=(1,) * num_layers,
        time_kernel_size=time_kernel_size,
        dropout=dropout,
        cond=cond,
        coordinates=coordinates,
    )
