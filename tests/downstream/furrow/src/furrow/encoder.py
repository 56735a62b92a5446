"""The `pool` encoder: the mean of each patch, then a small network on every position alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import compute_downsampling
from vqvideo.nets import Encoder
from vqvideo.streaming import Context

AVG_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class PoolEncoder(Encoder):
    """Means of patches, brought to z_channels.

    A code sees its own patch and nothing else, which is what `context` says.

    Args:
        rank: number of axes of the data.
        channels: of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis; only their product matters here.
        width: hidden channels.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        width: int = 64,
    ) -> None:
        super().__init__()
        self.rank, self.channels = rank, channels
        self.downsampling = compute_downsampling(tuple(map(tuple, strides)))
        self.context = (Context(0, 0),) * rank
        conv = CONVS[rank]
        self.layers = nn.Sequential(conv(channels, width, 1), nn.GELU(), conv(width, z_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """z_e `[b, z_channels, *grid]` of data `[b, channels, *axes]`."""
        return self.layers(AVG_POOLS[self.rank](x, self.downsampling))
