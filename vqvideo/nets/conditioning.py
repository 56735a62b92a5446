"""Embeddings of conditions that every layer of a network can add."""

from __future__ import annotations

import functools

import torch
from einops import rearrange
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec

# The first axis of a grid is the only one of audio, the rows of an image, the frames of a video.
FRAME_PATTERNS = {1: "b t c -> b c 1 1 t", 2: "b t c -> b c 1 t 1", 3: "b t c -> b c t 1 1"}


class CondEmbedding(nn.Module):
    """Embeds a `Cond` as `[b, width, t|1, h|1, w|1]`, the sum of the embeddings of its conditions.

    The embeddings of class and speaker are the same at all positions. The actions of a code frame
    are embedded one by one and projected to one vector for all positions of the frame. A local
    map has a vector per position. The embedding is computed once for a whole grid, outside any
    step loop. In training it is zeroed for a fraction `spec.dropout` of the items, which equals
    the unconditional case.
    """

    def __init__(self, spec: CondSpec, rank: int, width: int) -> None:
        super().__init__()
        self.spec, self.rank = spec, rank
        if spec.num_classes:
            self.class_id = nn.Embedding(spec.num_classes, width)
        if spec.num_speakers:
            self.speaker = nn.Embedding(spec.num_speakers, width)
        if spec.has_actions:
            self.action: nn.Module = (
                nn.Embedding(spec.num_actions, width)
                if spec.num_actions
                else nn.Linear(spec.action_dim, width)
            )
            self.action_proj = nn.Linear(spec.actions_per_code * width, width)
        if spec.local_channels:
            self.local = nn.Conv3d(spec.local_channels, width, 1)

    def forward(self, cond: Cond, batch: int, grid: tuple[int, ...]) -> Tensor:
        """Return the embedding; raise `ValueError` if `cond` does not fit spec, batch or grid."""
        cond.check(self.spec, batch, grid)
        parts: list[Tensor] = []
        if cond.class_id is not None:
            parts.append(self.class_id(cond.class_id)[:, :, None, None, None])
        if cond.speaker is not None:
            parts.append(self.speaker(cond.speaker)[:, :, None, None, None])
        if cond.actions is not None:
            frames = self.action_proj(self.action(cond.actions).reshape(batch, grid[0], -1))
            parts.append(rearrange(frames, FRAME_PATTERNS[self.rank]))
        if cond.local is not None:
            volume = [*(1,) * (3 - self.rank), *grid]
            parts.append(self.local(cond.local.reshape(batch, -1, *volume)))
        total = functools.reduce(torch.add, parts)
        if self.training and self.spec.dropout:
            keep = torch.rand(batch, 1, 1, 1, 1, device=total.device) >= self.spec.dropout
            total = total * keep
        return total


class ConcatConditioning(CondEmbedding):
    """Concatenates the embedding of a decoder's condition to z_q along channels.

    The embedding has as many channels as z_q and is the same at every position.

    Args:
        spec: a class, a speaker, both, or nothing, which adds no channels.
        width: channels of z_q.

    Raises:
        ValueError: `spec` has actions or a local map, which differ between positions.
    """

    def __init__(self, spec: CondSpec, width: int) -> None:
        if spec.has_actions or spec.local_channels:
            raise ValueError(
                "a decoder can be conditioned only on a class or a speaker, which apply to a whole "
                "clip; actions and local maps are for the prior"
            )
        super().__init__(spec, 1, width)
        self.width, self.is_identity = width, spec.is_empty

    def forward(self, z_q: Tensor, cond: Cond | None) -> Tensor:  # type: ignore[override]
        """Return z_q `[b, width, *grid]` with the embedding, or zeros, as `[b, 2 width, *grid]`."""
        batch = z_q.shape[0]
        if self.is_identity:
            if cond is not None:
                cond.check(self.spec, batch, (1,))  # raises unless it is empty
            return z_q
        if cond is None:
            embedding = z_q.new_zeros(batch, self.width)
        else:
            embedding = super().forward(cond.to(z_q.device), batch, (1,)).flatten(1)
        expanded = embedding[(..., *(None,) * (z_q.ndim - 2))].expand(-1, -1, *z_q.shape[2:])
        return torch.cat([z_q, expanded.to(z_q.dtype)], dim=1)
