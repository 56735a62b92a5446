"""Causal convolutional prior, shared by WaveNet, PixelCNN and the masked 3D convolution.

Codes are embedded, the causal network computes the features of each position from earlier
positions, and a small position-wise head computes the logits. The three published priors are this
prior with their own rank and defaults (wavenet.py, pixelcnn.py, masked3d.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vqvideo.cond import CondSpec
from vqvideo.nets.causal import CausalNet
from vqvideo.priors.network import NetworkPrior

MAX_LAYERS = 4096  # checked before a list of this length is built


class CausalPrior(NetworkPrior):
    """Prior of an embedding, a causal convolutional network and a head.

    A position depends only on positions within `receptive_field`, so sampling can continue
    without limit in bounded memory (`vqvideo.sampling.stream`).

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        width: channels of the network.
        kernel_radii: kernel radius of each layer; see `CausalLayer`.
        dilations: dilation of each layer.
        time_kernel_size: number of frames in each layer's time kernel.
        dropout: dropout rate in training.
        num_codebooks: s, codes per position.
        cond: conditions that the prior accepts.
        coordinates: whether to condition every position on its row and column, scaled to [-1, 1]
            (ranks 2 and 3). Without coordinates, zero padding at the border is the only cue to
            the position. With coordinates, a rank-2 grid has a fixed number of rows, so the prior
            is not unbounded.
    """

    net: CausalNet

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int = 1,
        width: int,
        kernel_radii: Sequence[int],
        dilations: Sequence[int],
        time_kernel_size: int = 2,
        dropout: float = 0.0,
        cond: CondSpec | Mapping[str, Any] | None = None,
        coordinates: bool = False,
    ) -> None:
        if coordinates and rank == 1:
            raise ValueError(
                "coordinates are rows and columns and require rank 2 or 3, got rank 1; "
                "use coordinates=False"
            )
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            num_codebooks=num_codebooks,
            width=width,
            cond=cond,
            build_net=lambda cond_width: CausalNet(
                rank=rank,
                width=width,
                kernel_radii=kernel_radii,
                dilations=dilations,
                time_kernel_size=time_kernel_size,
                cond_width=cond_width,
                dropout=dropout,
            ),
            coordinates=coordinates,
        )
        self.is_unbounded = rank != 2 or not coordinates
        self.receptive_field = self.net.receptive_field

    def forward_features(self, embeddings: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(embeddings.movedim(-1, 1), cond).movedim(1, -1)  # type: ignore[no-any-return]


def compute_kernel_radii(first_kernel_size: int, kernel_size: int, num_layers: int) -> list[int]:
    """Return the kernel radius of each layer, given odd kernel sizes.

    >>> compute_kernel_radii(first_kernel_size=5, kernel_size=3, num_layers=4)
    [2, 1, 1, 1]
    """
    if (
        not 1 <= num_layers <= MAX_LAYERS
        or first_kernel_size < 3
        or kernel_size < 3
        or not first_kernel_size % 2 == kernel_size % 2 == 1
    ):
        raise ValueError(
            f"kernel sizes must be odd and at least 3, and num_layers at least 1 and at most "
            f"{MAX_LAYERS}; got {first_kernel_size}, {kernel_size} and {num_layers}"
        )
    return [first_kernel_size // 2] + [kernel_size // 2] * (num_layers - 1)
