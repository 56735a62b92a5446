"""A causal transformer over a grid in raster order, for any rank.

The input at a position is the embedding of the previous position (at the first, a learned
vector), so causal attention that includes the position itself depends on strictly earlier codes.

Queries and keys are rotated by angles proportional to the coordinates of the predicted position
(rotary position embeddings, Su et al. 2021, arXiv 2104.09864), so attention scores depend on the
distance between two positions along each axis. To give the network the absolute position as well,
a linear map of the same cosines and sines is added to every input. No weight depends on the grid
size.

`vqvideo.incremental` evaluates the same network step by step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROPE_BASES = {1: 10_000, 2: 100, 3: 100}
"""RoPE base by rank: the ratio between the fastest rotation, one radian per position, and
(about) the slowest. Sequences use the base of the paper, grids with their short axes that of
RoPE-ViT (Heo et al. 2024, arXiv 2403.13298)."""


class AttentionNet(nn.Module):
    """Causal transformer with pre-norm blocks: features of each position from earlier ones only.

    Args:
        rank: number of axes of the grid, 1, 2 or 3.
        width: channels of the input, the residual stream and the output features.
        num_layers: number of blocks.
        num_heads: heads of each block; width / num_heads must be even and at least 2 rank, since
            each pair of channels of a head is rotated along one axis of the grid.
        max_positions: largest number of positions in a grid.
        cond_width: channels of the condition; 0 for none.
        dropout: dropout probability of the outputs of attention and MLP.
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
                f"a transformer needs num_layers, num_heads and max_positions >= 1 and an even "
                f"width / num_heads, got {num_layers}, {num_heads}, {max_positions} and width "
                f"{width}"
            )
        self.rank, self.num_heads, self.head_dim = rank, num_heads, width // num_heads
        self.max_positions = max_positions
        if self.head_dim < 2 * rank:
            raise ValueError(
                f"at rank {rank} width / num_heads must be at least {2 * rank}, two channels per "
                f"axis of the grid, got {width} / {num_heads}"
            )
        self.bos_embedding = nn.Parameter(torch.randn(width))  # input of the first position
        self.position_proj = nn.Linear(self.head_dim, width, bias=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, num_heads, cond_width, dropout) for _ in range(num_layers)
        )

    def forward(self, x: Tensor, grid: tuple[int, ...], cond: Tensor | None = None) -> Tensor:
        """Return features `[b, n, c]` of the n positions of a grid, in raster order.

        Args:
            x: embeddings `[b, n, c]` of the codes at these positions.
            grid: sizes of the axes of the grid.
            cond: condition `[b, e, t|1, h|1, w|1]`.
        """
        self.check_num_positions(x.shape[1])
        volume = (1,) * (3 - self.rank) + grid
        inputs = torch.cat([self.bos_embedding.expand(len(x), 1, -1), x[:, :-1]], dim=1)
        rope = self.compute_rope(compute_coords(x.shape[1], grid[1:]))
        projected = (block.project_cond(cond) for block in self.blocks)  # type: ignore[operator]
        biases = (b if b is None else b.expand(-1, *volume, -1).flatten(1, 3) for b in projected)
        return self.run_blocks(inputs, rope, biases)

    def run_blocks(
        self,
        inputs: Tensor,
        rope: Tensor,
        cond_biases: Iterable[Tensor | None],
        kv_caches: Iterable[Tensor | None] | None = None,
    ) -> Tensor:
        """Return features `[b, m, c]` of m consecutive positions; see `AttentionBlock.forward`."""
        x: Tensor = inputs + self.position_proj(
            rope.movedim(0, 1).flatten(1).to(self.position_proj.weight.dtype)
        )
        kv_caches = [None] * len(self.blocks) if kv_caches is None else kv_caches
        for block, cond_bias, kv_cache in zip(self.blocks, cond_biases, kv_caches, strict=True):
            x = block(x, rope, cond_bias, kv_cache)
        return x

    def compute_rope(self, coords: Tensor) -> Tensor:
        """Return cosines and sines `[2, m, head_dim / 2]` of the angles at coordinates `[m, rank]`.

        Angles reach thousands of radians, so they are computed in float64; the result is at least
        float32.
        """
        angles = coords.double() @ compute_rope_frequencies(self.rank, self.head_dim)
        dtype = torch.promote_types(self.bos_embedding.dtype, torch.float32)
        return torch.stack([angles.cos(), angles.sin()]).to(self.bos_embedding.device, dtype)

    def check_num_positions(self, num_positions: int) -> None:
        """Raise `ValueError` if a grid has more positions than `max_positions`."""
        if num_positions > self.max_positions:
            raise ValueError(
                f"the grid has {num_positions} positions, but this prior supports at most "
                f"{self.max_positions}; build it with a larger max_positions and train it on "
                f"such grids"
            )


class AttentionBlock(nn.Module):
    """Pre-norm transformer block: causal self-attention, then an MLP, with residual connections.

    Args:
        width: channels of the residual stream.
        num_heads: attention heads, each with width / num_heads channels.
        cond_width: channels of the condition; 0 for none.
        dropout: dropout probability.
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
        self.cond_proj = nn.Linear(cond_width, 2 * width, bias=False) if cond_width else None
        self.dropout = nn.Dropout(dropout)

    def project_cond(self, cond: Tensor | None) -> Tensor | None:
        """Project the condition `[b, e, t|1, h|1, w|1]` to the biases `[b, t|1, h|1, w|1, 2c]` of
        the inputs of attention and MLP.
        """
        if cond is None or self.cond_proj is None:
            return None
        return self.cond_proj(cond.movedim(1, -1))  # type: ignore[no-any-return]

    def forward(
        self, x: Tensor, rope: Tensor, cond_bias: Tensor | None, kv_cache: Tensor | None
    ) -> Tensor:
        """Return the residual stream `[b, m, c]` after this block.

        Args:
            x: residual stream `[b, m, c]` before this block.
            rope: cosines and sines of the m positions; see `AttentionNet.compute_rope`.
            cond_bias: biases from the condition, `[b, m, 2c]`; see `project_cond`.
            kv_cache: keys and values `[2, b, heads, n, head_dim]` of all n positions so far; the
                last m are written by this call. None if there are no earlier positions.
        """
        attention_bias, mlp_bias = (0, 0) if cond_bias is None else cond_bias.chunk(2, dim=-1)
        qkv = self.query_key_value(self.norm_attention(x) + attention_bias)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = apply_rope(qkv[:2], rope)
        value = qkv[2]
        if kv_cache is not None:
            kv_cache[0, :, :, -x.shape[1] :] = key
            kv_cache[1, :, :, -x.shape[1] :] = value
            key, value = kv_cache
        heads = attend(query, key, value)
        x = x + self.dropout(self.out(heads.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm_mlp(x) + mlp_bias))  # type: ignore[no-any-return]


def compute_coords(num_positions: int, inner_shape: tuple[int, ...]) -> Tensor:
    """Return the coordinates of the first positions of a grid, int64 `[num_positions, rank]`.

    Args:
        num_positions: number of positions, in raster order.
        inner_shape: sizes of all axes except the first.

    >>> compute_coords(4, (3,)).tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0]]
    """
    index, axes = torch.arange(num_positions), []
    for size in reversed(inner_shape):
        axes.append(index % size)
        index = index // size
    return torch.stack([index, *reversed(axes)], dim=1)


def compute_rope_frequencies(rank: int, head_dim: int) -> Tensor:
    """Return the frequencies of each channel pair of a head, float64 `[rank, head_dim / 2]`.

    They are in radians per step along each axis. Each pair is rotated along one axis only, and
    the pairs are divided evenly among the axes.

    >>> compute_rope_frequencies(2, 8).tolist()
    [[1.0, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1]]
    """
    frequencies = torch.zeros(rank, head_dim // 2, dtype=torch.float64)
    for axis, pairs in enumerate(torch.arange(head_dim // 2).tensor_split(rank)):
        frequencies[axis, pairs] = torch.logspace(
            0, 1 / len(pairs) - 1, len(pairs), ROPE_BASES[rank], dtype=torch.float64
        )
    return frequencies


def apply_rope(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate each channel i of `x` `[..., m, d]` together with channel i + d / 2."""
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return causal attention of the last m of n positions, `[b, heads, m, d]`, to all n."""
    m, n = query.shape[2], key.shape[2]
    if m in (1, n):
        return F.scaled_dot_product_attention(query, key, value, is_causal=m > 1)
    mask = torch.ones(m, n, dtype=torch.bool, device=query.device).tril(n - m)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
