"""Conditions as one map that every layer of a network can add."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec


class CondEmbedding(nn.Module):
    """Embeds a `Cond` as `[b, width, t|1, h|1, w|1]`, the sum of what each condition says.

    Class and speaker are the same everywhere; the actions of a code frame are embedded one by
    one and joined linearly, the same for all its positions; a local map has its own vector at
    each position. Computed once for a whole grid, outside any step loop. In training some items
    get zeros, which is what a network adds that is told nothing.
    """

    def __init__(self, spec: CondSpec, rank: int, width: int) -> None:
        super().__init__()
        self.spec, self.rank = spec, rank
        if spec.num_classes:
            self.class_id = nn.Embedding(spec.num_classes, width)
        if spec.num_speakers:
            self.speaker = nn.Embedding(spec.num_speakers, width)
        if spec.takes_actions:
            self.action: nn.Module = (
                nn.Embedding(spec.num_actions, width)
                if spec.num_actions
                else nn.Linear(spec.action_dim, width)
            )
            self.join_actions = nn.Linear(spec.actions_per_code * width, width)
        if spec.local_channels:
            self.local = nn.Conv3d(spec.local_channels, width, 1)

    def forward(self, cond: Cond, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Raises `ValueError` unless `cond` fits the spec, the batch and the grid."""
        cond.check(self.spec, batch, grid)
        parts: list[Tensor] = []
        if cond.class_id is not None:
            parts.append(self.class_id(cond.class_id)[:, :, None, None, None])
        if cond.speaker is not None:
            parts.append(self.speaker(cond.speaker)[:, :, None, None, None])
        if cond.actions is not None:
            each = self.action(cond.actions)
            joined = self.join_actions(each.reshape(batch, grid[0], -1)).movedim(1, 2)
            axis = 5 - self.rank  # where the grid's first axis stands in [b, c, t, h, w]
            parts.append(
                joined.reshape(*joined.shape[:2], *(1,) * (axis - 2), grid[0], *(1,) * (4 - axis))
            )
        if cond.local is not None:
            volume = cond.local.reshape(
                batch, self.spec.local_channels, *(1,) * (3 - self.rank), *grid
            )
            parts.append(self.local(volume))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if self.training and self.spec.dropout:
            told = torch.rand(batch, 1, 1, 1, 1, device=total.device) >= self.spec.dropout
            total = total * told
        return total


class ToldBeside(CondEmbedding):
    """Puts what a decoder is told beside the codes it is given: as many channels again, the same at
    every position.

    Args:
        spec: a class, a speaker, both, or nothing, which adds no channels.
        width: channels of z_q.

    Raises:
        ValueError: `spec` takes what differs from position to position.
    """

    def __init__(self, spec: CondSpec, width: int) -> None:
        if spec.takes_actions or spec.local_channels:
            raise ValueError(
                "a decoder can be told a class or a speaker, which hold for all of a clip; actions "
                "and local maps are for the prior"
            )
        super().__init__(spec, 1, width)
        self.width = width

    def forward(self, z_q: Tensor, cond: Cond | None) -> Tensor:  # type: ignore[override]
        """`[b, 2 width, *grid]` of z_q `[b, width, *grid]`; told nothing, it adds zeros."""
        batch = z_q.shape[0]
        if self.spec.is_empty:
            if cond is not None:
                cond.check(self.spec, batch, (1,))  # raises unless it is empty
            return z_q
        if cond is None:
            told = z_q.new_zeros(batch, self.width)
        else:
            told = super().forward(cond.to(z_q.device), batch, (1,)).flatten(1)
        everywhere = told[(..., *(None,) * (z_q.ndim - 2))].expand(-1, -1, *z_q.shape[2:])
        return torch.cat([z_q, everywhere.to(z_q.dtype)], dim=1)
