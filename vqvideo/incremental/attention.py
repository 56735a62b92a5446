"""Step-by-step evaluation of the transformer with a key-value cache.

The state is kept outside the modules, so any number of samplers can share a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.nets.attention import AttentionNet, compute_coords


class AttentionState:
    """State of an `AttentionNet` that is evaluated over a grid in raster order.

    Evaluation is lazy: pushed embeddings are queued until features are requested, then all of
    them pass through the network at once, and their keys and values are cached. The cache is
    allocated for the grid and doubles if the grid grows.

    Args:
        net: the network; its weights are not modified.
        batch: number of samples.
        grid: sizes of the axes; the first axis may grow up to `max_positions` of the network.
        cond, num_steps: the condition of the first steps along the first axis; see
            `set_condition`.
    """

    def __init__(
        self,
        net: AttentionNet,
        batch: int,
        grid: tuple[int, ...],
        cond: Tensor | None = None,
        num_steps: int | None = None,
    ) -> None:
        net.check_num_positions(math.prod(grid))
        self.net, self.inner_shape, self.positions_per_step = net, grid[1:], math.prod(grid[1:])
        self.position = 0  # index of the next position
        self.num_cached = 0  # positions whose keys and values are cached
        # Inputs `[b, m, c]` of the positions that are not cached yet.
        self.pending = [net.bos_embedding.expand(batch, 1, -1)]
        self.last_features: Tensor | None = None  # features of the last cached position
        shape = (len(net.blocks), 2, batch, net.num_heads, 0, net.head_dim)
        self.kv_cache = torch.empty(
            shape, dtype=net.bos_embedding.dtype, device=net.bos_embedding.device
        )
        self._resize_cache(math.prod(grid))
        self.set_condition(cond, num_steps)

    def set_condition(self, cond: Tensor | None, num_steps: int | None = None) -> None:
        """Set the condition `[b, e, t|1, h|1, w|1]` of the next `num_steps` steps along the first
        axis, or of all following steps if `num_steps` is None.

        Raises:
            ValueError: the current step along the first axis has already begun.
        """
        if self.position % self.positions_per_step or self.num_cached > self.position:
            raise ValueError(
                "the current step along the first axis has already begun; set its condition before "
                "its first logits are computed"
            )
        if self.num_cached < self.position:
            self._run_network(self.position)  # they use the previous condition
        self.cond_biases = [block.project_cond(cond) for block in self.net.blocks]  # type: ignore[operator]
        self.cond_start = self.position // self.positions_per_step
        self.cond_end = math.inf if num_steps is None else self.cond_start + num_steps

    def compute_features(self) -> Tensor:
        """Return features `[b, c]` of the next position.

        Raises:
            ValueError: the condition covers fewer steps, or the grid exceeds `max_positions`.
        """
        if self.num_cached <= self.position:
            self._check_grid()
            self.last_features = self._run_network(self.position + 1)[:, -1]
        assert self.last_features is not None
        return self.last_features

    def push(self, embedding: Tensor) -> None:
        """Queue the embedding `[b, c]` of the current position and advance to the next."""
        self._check_grid()
        self.pending.append(embedding[:, None])
        self.position += 1

    def prefill(self, embeddings: Tensor, num_positions: int) -> None:
        """Queue the first `num_positions` of embeddings `[b, *grid, c]`; only on a new state."""
        assert not (self.position or self.num_cached), "prefill requires a new state"
        self.pending.append(embeddings.flatten(1, -2)[:, :num_positions])
        self.position = num_positions

    @torch.no_grad()
    def _run_network(self, end: int) -> Tensor:
        """Return features of the positions from `num_cached` to `end` and cache them."""
        if (end - 1) // self.positions_per_step >= self.cond_end:
            raise ValueError(
                f"the condition covers {self.cond_end - self.cond_start} steps along the first "
                f"axis of the grid, and all are done; set the condition of the next steps"
            )
        if end > len(self.coords):
            self._resize_cache(max(end, min(2 * len(self.coords), self.net.max_positions)))
        inputs, rest = torch.cat(self.pending, dim=1).tensor_split([end - self.num_cached], dim=1)
        span = slice(self.num_cached, end)
        biases = self._gather_cond_biases(self.coords[span])
        features = self.net.run_blocks(
            inputs, self.rope[:, span], biases, self.kv_cache[..., :end, :]
        )
        self.pending, self.num_cached = [rest] if rest.shape[1] else [], end
        return features

    def _gather_cond_biases(self, coords: Tensor) -> list[Tensor | None]:
        """Return the biases from the condition at coordinates `[m, rank]`, for each block."""
        axes = list(coords.unbind(dim=1))
        axes[0] = axes[0] - self.cond_start
        axes = axes[:1] * (3 - self.net.rank) + axes  # axes missing at this rank have size 1
        biases = []
        for bias in self.cond_biases:
            if bias is not None:  # axes of size 1 are broadcast
                sizes = bias.shape[1:4]
                bias = bias[:, *(a * (size > 1) for a, size in zip(axes, sizes, strict=True))]
            biases.append(bias)
        return biases

    def _resize_cache(self, num_positions: int) -> None:
        """Reallocate the cache for `num_positions` positions and keep its content."""
        before = self.kv_cache
        self.kv_cache = before.new_empty(*before.shape[:4], num_positions, before.shape[5])
        self.kv_cache[..., : self.num_cached, :] = before[..., : self.num_cached, :]
        self.coords = compute_coords(num_positions, self.inner_shape)
        self.rope = self.net.compute_rope(self.coords)
        self.coords = self.coords.to(before.device)

    def _check_grid(self) -> None:
        self.net.check_num_positions(
            (self.position // self.positions_per_step + 1) * self.positions_per_step
        )
