"""The `masked3d` prior: a causal 3D convolution over the codes of a clip (rank 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.cond import CondSpec
from vqvideo.priors.base import PRIORS, one_rank_only
from vqvideo.priors.causal import CausalPrior, reaches


@PRIORS.register("masked3d")
def masked3d(
    *,
    rank: int = 3,
    codebook_size: int,
    num_codebooks: int = 1,
    width: int = 96,
    num_layers: int = 8,
    first_kernel: int = 5,
    kernel: int = 3,
    time_kernel: int = 2,
    dropout: float = 0.1,
    cond: CondSpec | Mapping[str, Any] | None = None,
    coordinates: bool = False,
) -> CausalPrior:
    """Gated PixelCNN with a third stack for past frames.

    A raster-masked 3D kernel would be blind to much of the past; three stacks of cropped kernels
    see all of it. With S the sum of kernel // 2 over L layers, a position sees frames back to
    1 + L (time_kernel - 1), in each of them the rows and columns within S (one more row up), and
    in its own frame what `pixelcnn` sees.

    Args:
        rank: 3; another raises `ValueError`.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels.
        num_layers: L, of the causal core.
        first_kernel: width of the first layer's kernel in a frame; odd.
        kernel: width of the other layers' kernels in a frame; odd.
        time_kernel: frames that each layer's time stack sees.
        dropout: in training.
        cond: what the prior can be told.
        coordinates: whether every position is told its row and column; see `CausalPrior`.
    """
    one_rank_only("masked3d", rank, 3)
    return CausalPrior(
        rank=3,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        width=width,
        reaches=reaches(first_kernel, kernel, num_layers),
        dilations=(1,) * num_layers,
        time_kernel=time_kernel,
        dropout=dropout,
        cond=cond,
        coordinates=coordinates,
    )
