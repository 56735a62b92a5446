"""An encoder for vqvideo: one linear map of each patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vqvideo.grid import compute_downsampling
from vqvideo.nets import Encoder
from vqvideo.streaming import Context

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class MyEncoder(Encoder):
    """Encode each patch to z_e, from that patch alone; `context` declares this.

    Args:
        rank: number of axes of the data.
        channels: channels of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis; only their product matters here.
    """

    def __init__(
        self, *, rank: int, channels: int, z_channels: int, strides: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.rank, self.channels = rank, channels
        self.downsampling = compute_downsampling(tuple(map(tuple, strides)))
        self.context = (Context(0, 0),) * rank
        patch = self.downsampling
        self.proj: nn.Module = CONV[rank](channels, z_channels, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return z_e `[b, z_channels, *grid]` of data `[b, channels, *axes]`."""
        z_e: Tensor = self.proj(x)
        return z_e
