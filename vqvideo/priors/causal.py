"""Causal convolutional prior, shared by WaveNet, PixelCNN and the masked 3D convolution.

Codes are embedded, the causal network computes the features of each position from earlier
positions, and a small position-wise head computes the logits. The three published priors are this
prior with their own rank and defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vqvideo.cond import CondSpec
from vqvideo.nets.causal import CausalNet
from vqvideo.priors.base import PRIORS, get_default_prior
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
    _require_rank("wavenet", rank, 1)
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
    _require_rank("pixelcnn", rank, 2)
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
    _require_rank("masked3d", rank, 3)
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


def _require_rank(name: str, rank: int, required: int) -> None:
    """Raise `ValueError` unless the rank is the one that this prior requires."""
    if rank != required:
        raise ValueError(
            f"prior {name!r} requires code grids of rank {required}, got rank {rank}; "
            f"for rank {rank} use {get_default_prior(rank)!r}"
        )
