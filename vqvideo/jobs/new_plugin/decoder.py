"""A decoder for vqvideo: each code drawn as a patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vqvideo.grid import downsampling
from vqvideo.nets import Decoder
from vqvideo.nets.blocks import Reach

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


class MyDecoder(Decoder):
    """The patch of each code from that code and from nothing else, which is what `reach` says.

    Args:
        rank: number of axes of the data.
        channels: of the likelihood's parameters.
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
        self.reach = (Reach(0, 0),) * rank
        patch = downsampling(tuple(map(tuple, strides)))
        self.layers = nn.Sequential(
            CONV[rank](z_channels, width, 1),
            nn.GELU(),
            CONV_TRANSPOSE[rank](width, channels, patch, stride=patch),
        )

    def forward(self, z_q: Tensor) -> Tensor:
        """The likelihood's parameters `[b, channels, *axes]` of z_q `[b, z_channels, *grid]`."""
        parameters: Tensor = self.layers(z_q)
        return parameters
