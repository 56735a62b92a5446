"""A causal transformer over a raster of positions, for any rank.

The input of a position is the embedding of the position before it (of the first, a learned
vector), so that attention to oneself and to everything earlier is strictly causal.

Queries and keys are turned by angles that grow with the coordinates of the position that is
predicted (rotary positions, Su et al. 2021, arXiv 2104.09864), so a score depends on how far apart
two positions are along each axis. Where a position is, in its row for instance, could be found
from the first input alone, which all see; to make that easy, a linear map of the cosines and sines
of the same angles is added to every input. No weight has the size of a grid.

Step-by-step evaluation of the same network is attention_state.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASES = {1: 10_000, 2: 100, 3: 100}
"""The slowest turn is about this many times slower than the fastest, one radian a position: long
sequences as in the paper, the short axes of grids as in RoPE-ViT (Heo et al. 2024, arXiv
2403.13298)."""


class AttentionNet(nn.Module):
    """Pre-norm transformer blocks: features of each position from strictly earlier ones.

    Args:
        rank: axes of the grid, 1, 2 or 3.
        width: channels of the input, of the residual stream and of the features returned.
        num_layers: blocks.
        num_heads: heads of each block; width / num_heads must be even and at least 2 rank, for
            each pair of a head's channels belongs to one axis of the grid.
        max_positions: of a grid.
        cond_width: channels of the condition; 0 for none.
        dropout: in training, of what attention and MLP add.
    """

    def __init__(
        self,
        *,
        rank: int,
        width: int,
        num_layers: int,
        num_heads: int,
        max_positions: int,
        cond_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_layers, num_heads, max_positions) < 1 or width % (2 * num_heads):
            raise ValueError(
                f"a transformer needs at least one layer, head and position and an even "
                f"width / num_heads, got {num_layers}, {num_heads}, {max_positions} and width "
                f"{width}"
            )
        self.rank, self.num_heads, self.head_dim = rank, num_heads, width // num_heads
        self.max_positions = max_positions
        if self.head_dim < 2 * rank:
            raise ValueError(
                f"at rank {rank} width / num_heads must be at least {2 * rank}, two channels for "
                f"each axis of the grid, got {width} / {num_heads}"
            )
        self.first = nn.Parameter(torch.randn(width))  # the input of the first position
        self.place = nn.Linear(self.head_dim, width, bias=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, num_heads, cond_width, dropout) for _ in range(num_layers)
        )

    def forward(self, x: Tensor, grid: tuple[int, ...], told: Tensor | None = None) -> Tensor:
        """Features `[b, n, c]` of the n positions of a grid, in raster order, from what is known
        of them, `x` `[b, n, c]`; `told` is the condition `[b, e, t|1, h|1, w|1]`.
        """
        self.check(x.shape[1])
        volume = (1,) * (3 - self.rank) + grid
        inputs = torch.cat([self.first.expand(len(x), 1, -1), x[:, :-1]], dim=1)
        turns = self.turns(coordinates(x.shape[1], grid[1:]))
        each = (block.map(told) for block in self.blocks)  # type: ignore[operator]
        maps = (m if m is None else m.expand(-1, *volume, -1).flatten(1, 3) for m in each)
        return self.run(inputs, turns, maps)

    def run(
        self,
        inputs: Tensor,
        turns: Tensor,
        maps: Iterable[Tensor | None],
        rooms: Iterable[Tensor | None] | None = None,
    ) -> Tensor:
        """Features `[b, m, c]` of m positions in a row; see `AttentionBlock` for the others."""
        x: Tensor = inputs + self.place(turns.movedim(0, 1).flatten(1).to(self.place.weight.dtype))
        rooms = [None] * len(self.blocks) if rooms is None else rooms
        for block, map_, room in zip(self.blocks, maps, rooms, strict=True):
            x = block(x, turns, map_, room)
        return x

    def turns(self, places: Tensor) -> Tensor:
        """Cosine and sine `[2, m, head_dim / 2]` of the angles at places `[m, rank]`, in at least
        single precision: angles reach thousands of radians, so they are worked out in double.
        """
        angles = places.double() @ frequencies(self.rank, self.head_dim)
        dtype = torch.promote_types(self.first.dtype, torch.float32)
        return torch.stack([angles.cos(), angles.sin()]).to(self.first.device, dtype)

    def check(self, positions: int) -> None:
        """Raise `ValueError` for a grid of more positions than `max_positions`."""
        if positions > self.max_positions:
            raise ValueError(
                f"the grid has {positions} positions, this prior takes {self.max_positions}; "
                f"build it with a larger max_positions and train it on such grids"
            )


class AttentionBlock(nn.Module):
    """Attention to oneself and all before, then an MLP; each adds to what it was given.

    Args:
        width: channels.
        num_heads: each of width / num_heads channels.
        cond_width: channels of the condition; 0 for none.
        dropout: in training.
    """

    def __init__(self, width: int, num_heads: int, cond_width: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.cond = nn.Linear(cond_width, 2 * width, bias=False) if cond_width else None
        self.dropout = nn.Dropout(dropout)

    def map(self, told: Tensor | None) -> Tensor | None:
        """What the condition `[b, e, t|1, h|1, w|1]` adds to the inputs of attention and MLP,
        `[b, t|1, h|1, w|1, 2c]`.
        """
        if told is None or self.cond is None:
            return None
        return self.cond(told.movedim(1, -1))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, turns: Tensor, map_: Tensor | None, room: Tensor | None) -> Tensor:
        """The stream `[b, m, c]` after this block.

        Args:
            x: the stream before it.
            turns: of the m positions; see `AttentionNet.turns`.
            map_: what the condition adds there, `[b, m, 2c]`.
            room: keys and values `[2, b, heads, n, head_dim]` of all n positions so far; the last
                m are written here. None where there are none before.
        """
        to_attention, to_mlp = (0, 0) if map_ is None else map_.chunk(2, dim=-1)
        mixed = self.query_key_value(self.norm_attention(x) + to_attention)
        mixed = mixed.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = turn(mixed[:2], turns)
        value = mixed[2]
        if room is not None:
            room[0, :, :, -x.shape[1] :] = key
            room[1, :, :, -x.shape[1] :] = value
            key, value = room
        heads = attend(query, key, value)
        x = x + self.dropout(self.out(heads.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm_mlp(x) + to_mlp))  # type: ignore[no-any-return]


def coordinates(positions: int, inner: tuple[int, ...]) -> Tensor:
    """Where the first positions of a grid are, int64 `[positions, rank]`; `inner` are the sizes
    of all axes but the first.

    >>> coordinates(4, (3,)).tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0]]
    """
    index, axes = torch.arange(positions), []
    for size in reversed(inner):
        axes.append(index % size)
        index = index // size
    return torch.stack([index, *reversed(axes)], dim=1)


def frequencies(rank: int, head_dim: int) -> Tensor:
    """Radians that each pair of a head's channels turns by for one step along each axis, float64
    `[rank, head_dim / 2]`. A pair belongs to one axis, and the axes share them evenly.

    >>> frequencies(2, 8).tolist()
    [[1.0, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1]]
    """
    table = torch.zeros(rank, head_dim // 2, dtype=torch.float64)
    for axis, own in enumerate(torch.arange(head_dim // 2).tensor_split(rank)):
        table[axis, own] = torch.logspace(
            0, 1 / len(own) - 1, len(own), BASES[rank], dtype=torch.float64
        )
    return table


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """`x` `[..., m, d]`, channel i turned in the plane with channel i + d / 2."""
    cos, sin = turns
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention of the last m of n positions, `[b, heads, m, d]`, to all n."""
    m, n = query.shape[2], key.shape[2]
    if m in (1, n):
        return F.scaled_dot_product_attention(query, key, value, is_causal=m > 1)
    mask = torch.ones(m, n, dtype=torch.bool, device=query.device).tril(n - m)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
