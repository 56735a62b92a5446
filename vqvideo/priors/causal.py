"""The prior that WaveNet, PixelCNN and the masked 3D convolution have in common.

Codes are embedded, the causal core turns them into features of each position from earlier ones,
and a small head that works position by position gives the logits. The three published priors are
this one with their rank and their defaults (wavenet.py, pixelcnn.py, masked3d.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.nets.causal import CausalNet
from vqvideo.nets.causal_state import CausalState
from vqvideo.priors.network import NetworkPrior, NetworkState
from vqvideo.sampling import Drawer


class CausalPrior(NetworkPrior):
    """Embedding, causal core, head.

    A position depends on nothing beyond `receptive_field`, so sampling goes on without end in
    bounded memory (`vqvideo.sampling.stream`).

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        width: channels of the core.
        reaches: how far each layer looks; see `CausalLayer`.
        dilations: of each layer.
        time_kernel: frames each layer's time stack sees.
        dropout: in training.
        num_codebooks: s, codes per position.
        cond: what the prior can be told.
        coordinates: whether every position is told its row and column, each from -1 at the first
            to 1 at the last (ranks 2 and 3). Without, a position knows of its place what zeros
            beyond the border tell it. With rows of its own, rank 2 cannot go on without end.
    """

    net: CausalNet

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int = 1,
        width: int,
        reaches: Sequence[int],
        dilations: Sequence[int],
        time_kernel: int = 2,
        dropout: float = 0.0,
        cond: CondSpec | Mapping[str, Any] | None = None,
        coordinates: bool = False,
    ) -> None:
        if coordinates and rank == 1:
            raise ValueError("coordinates are rows and columns; a sequence (rank 1) has neither")
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            num_codebooks=num_codebooks,
            width=width,
            cond=cond,
            net=lambda cond_width: CausalNet(
                rank=rank,
                width=width,
                reaches=reaches,
                dilations=dilations,
                time_kernel=time_kernel,
                cond_width=max(cond_width, width if coordinates else 0),
                dropout=dropout,
            ),
        )
        self.places = nn.Linear(2, width, bias=False) if coordinates else None
        self.endless = rank != 2 or not coordinates
        self.receptive_field = self.net.receptive_field

    def features(self, embedded: Tensor, told: Tensor | None) -> Tensor:
        return self.net(embedded.movedim(-1, 1), told).movedim(1, -1)  # type: ignore[no-any-return]

    def tell(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None:
        told = super().tell(cond, batch, grid)
        if self.places is None:
            return told
        weight = self.places.weight
        axes = [
            torch.linspace(-1, 1, size, dtype=weight.dtype, device=weight.device)
            for size in grid[-2:]
        ]
        places = torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1)  # [h, w, 2]
        map_: Tensor = self.places(places).movedim(-1, 0)[None, :, None]
        zero: Tensor = map_.new_zeros(batch, 1, 1, 1, 1)
        return map_ + (zero if told is None else told)

    def walk(
        self, batch: int, grid: tuple[int, ...], told: Tensor | None, steps: int | None
    ) -> CausalState:
        if not self.endless:
            steps = grid[0]
        return CausalState(self.net, batch, grid[1:], told, steps)

    def start(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> CausalPriorState:
        return CausalPriorState(self, batch, grid, cond)


def reaches(first_kernel: int, kernel: int, num_layers: int) -> list[int]:
    """How far each layer looks to either side, from the widths of (odd) kernels.

    >>> reaches(first_kernel=5, kernel=3, num_layers=4)
    [2, 1, 1, 1]
    """
    if num_layers < 1 or first_kernel < 3 or kernel < 3 or not first_kernel % 2 == kernel % 2 == 1:
        raise ValueError(
            f"kernels must be odd and at least 3, num_layers at least 1; "
            f"got {first_kernel}, {kernel} and {num_layers}"
        )
    return [first_kernel // 2] + [kernel // 2] * (num_layers - 1)


class CausalPriorState(NetworkState):
    """The step-by-step form of a `CausalPrior`; see `vqvideo.sampling.PriorState`."""

    prior: CausalPrior
    net: CausalState

    def fused(self) -> Drawer:
        """A drawer that does H, head and choice in one compiled loop (`vqvideo.priors.fused`).

        Raises:
            ValueError: there is none for this state; the message says why.
        """
        if importlib.util.find_spec("numba") is None:
            raise ValueError("it needs numba: pip install 'vqvideo[fast]'")
        if self.batch != 1:
            raise ValueError(f"it is for one sample at a time, not for a batch of {self.batch}")
        if self.table.device.type != "cpu" or self.table.dtype != torch.float32:
            raise ValueError(
                f"it is for float32 on the CPU, not for {self.table.dtype} on {self.table.device}"
            )
        if torch.is_autocast_enabled("cpu"):
            raise ValueError("it is for float32, not for autocast")
        try:
            from vqvideo.priors.fused import Fused
        except (ImportError, RuntimeError) as cause:  # the latter: nowhere to keep what it compiled
            raise ValueError(f"numba does not work here: {cause}") from cause
        return Fused(self)
