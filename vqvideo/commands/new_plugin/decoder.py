"""A decoder for vqvideo: one patch per code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vqvideo.grid import compute_downsampling
from vqvideo.nets import Decoder
from vqvideo.streaming import Context

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


class MyDecoder(Decoder):
    """Decode each code to a patch, from that code alone; `context` declares this.

    Args:
        rank: number of axes of the data.
        channels: channels of the likelihood's parameters.
        z_channels: channels of z_q.
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
        self.context = (Context(0, 0),) * rank
        patch = compute_downsampling(tuple(map(tuple, strides)))
        self.layers = nn.Sequential(
            CONV[rank](z_channels, width, 1),
            nn.GELU(),
            CONV_TRANSPOSE[rank](width, channels, patch, stride=patch),
        )

    def forward(self, z_q: Tensor) -> Tensor:
        """Decode z_q `[b, z_channels, *grid]` to likelihood parameters `[b, channels, *axes]`."""
        parameters: Tensor = self.layers(z_q)
        return parameters
