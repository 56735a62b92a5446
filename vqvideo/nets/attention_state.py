"""The transformer step by step, with the keys and values of what is done kept.

The state lives here and nowhere in the modules, so any number of samplers can share a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqvideo.nets.attention import AttentionNet, coordinates


class AttentionState:
    """The network over a grid in raster order, as many positions at a time as are waiting.

    Work is done when it is asked for: embeddings that are pushed wait until features are wanted,
    then all go through the network at once, and their keys and values are kept. The memory for
    these is laid out for the grid and doubles where the grid goes on.

    Args:
        net: the network; its weights are read, never changed.
        batch: number of samples.
        grid: its first axis may go on, until `max_positions` of the network.
        told, steps: the condition for the first steps along the first axis; see `tell`.
    """

    def __init__(
        self,
        net: AttentionNet,
        batch: int,
        grid: tuple[int, ...],
        told: Tensor | None = None,
        steps: int | None = None,
    ) -> None:
        net.check(math.prod(grid))
        self.net, self.inner, self.per_step = net, grid[1:], math.prod(grid[1:])
        self.position = 0  # the next one
        self.done = 0  # positions whose keys and values are kept
        self.waiting = [net.first.expand(batch, 1, -1)]  # inputs of the others, `[b, m, c]` each
        self.latest: Tensor | None = None  # features of the last one that is done
        shape = (len(net.blocks), 2, batch, net.num_heads, 0, net.head_dim)
        self.rooms = torch.empty(shape, dtype=net.first.dtype, device=net.first.device)
        self._make_room(math.prod(grid))
        self.tell(told, steps)

    def tell(self, told: Tensor | None, steps: int | None = None) -> None:
        """The condition `[b, e, t|1, h|1, w|1]` from here on, for so many steps along the first
        axis; None is for all that follow.
        """
        if self.position % self.per_step or self.done > self.position:
            raise ValueError(
                "a step along the first axis has begun; what holds for it must be told before its "
                "first logits are asked for"
            )
        if self.done < self.position:
            self._run(self.position)  # they were told otherwise
        self.maps = [block.map(told) for block in self.net.blocks]  # type: ignore[operator]
        self.told_from = self.position // self.per_step
        self.told_until = math.inf if steps is None else self.told_from + steps

    def features(self) -> Tensor:
        """Features `[b, c]` of the next position.

        Raises:
            ValueError: the condition was told for fewer steps, or the grid has grown too large.
        """
        if self.done <= self.position:
            self._check_grid()
            self.latest = self._run(self.position + 1)[:, -1]
        assert self.latest is not None
        return self.latest

    def push(self, embedding: Tensor) -> None:
        """Take the embedding `[b, c]` of this position and go to the next."""
        self._check_grid()
        self.waiting.append(embedding[:, None])
        self.position += 1

    def prefill(self, embedded: Tensor, positions: int) -> None:
        """Take the first positions of `[b, *grid, c]`; only at the very start."""
        assert not (self.position or self.done), "prefill belongs at the start"
        self.waiting.append(embedded.flatten(1, -2)[:, :positions])
        self.position = positions

    @torch.no_grad()
    def _run(self, until: int) -> Tensor:
        """Features of the positions from `done` to `until`, which are done then."""
        if (until - 1) // self.per_step >= self.told_until:
            raise ValueError(
                f"the condition was told for {self.told_until - self.told_from} steps along the "
                f"first axis of the grid, and all are done; tell what holds for the next ones"
            )
        if until > len(self.places):
            self._make_room(max(until, min(2 * len(self.places), self.net.max_positions)))
        now, rest = torch.cat(self.waiting, dim=1).tensor_split([until - self.done], dim=1)
        here = slice(self.done, until)
        maps = self._maps(self.places[here])
        features = self.net.run(now, self.turns[:, here], maps, self.rooms[..., :until, :])
        self.waiting, self.done = [rest] if rest.shape[1] else [], until
        return features

    def _maps(self, places: Tensor) -> list[Tensor | None]:
        """What the condition adds at places `[m, rank]`, for each block."""
        axes = list(places.unbind(dim=1))
        axes[0] = axes[0] - self.told_from
        axes = axes[:1] * (3 - self.net.rank) + axes  # an axis that a rank lacks has size 1
        told = []
        for map_ in self.maps:
            if map_ is not None:  # what has size 1 is the same all along its axis
                sizes = map_.shape[1:4]
                map_ = map_[:, *(a * (size > 1) for a, size in zip(axes, sizes, strict=True))]
            told.append(map_)
        return told

    def _make_room(self, positions: int) -> None:
        """Lay out the memory for so many positions and keep what is done."""
        before = self.rooms
        self.rooms = before.new_empty(*before.shape[:4], positions, before.shape[5])
        self.rooms[..., : self.done, :] = before[..., : self.done, :]
        self.places = coordinates(positions, self.inner)
        self.turns = self.net.turns(self.places)
        self.places = self.places.to(before.device)

    def _check_grid(self) -> None:
        self.net.check((self.position // self.per_step + 1) * self.per_step)
