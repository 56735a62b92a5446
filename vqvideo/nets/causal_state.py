"""The causal core one position at a time: T once a frame, V once a row, H once a code.

The state lives here and nowhere in the modules, so any number of samplers can share a network.
Work is done when it is asked for: of a frame that is only pushed T alone takes notice, of a row V,
and H runs for the positions that stand before one whose features are wanted.

The first axis of the grid has no end. Of it is kept what the receptive field reaches, so memory
does not grow, and the features are those that the whole sequence would give.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.nets.causal import CausalNet
from vqvideo.nets.horizontal import Horizontal
from vqvideo.nets.stacks import Time, Vertical


class CausalState:
    """Walks a grid in raster order.

    Args:
        net: the network; its weights are read, never changed.
        batch: number of samples.
        inner: sizes of all axes of the grid but the first.
        told, steps: the condition for the first steps along the first axis; see `tell`.

    Call `features()` for the features of the next position if they are wanted, then `push()` its
    embedding.
    """

    def __init__(
        self,
        net: CausalNet,
        batch: int,
        inner: tuple[int, ...],
        told: Tensor | None = None,
        steps: int | None = None,
    ) -> None:
        assert len(inner) == net.rank - 1
        self.net, self.rank = net, net.rank
        self.height, self.width = (0, 0, *inner)[-2:]  # 0 for an axis that is missing or first
        self.steps = 0  # complete ones along the first axis
        self.row, self.column = 0, 0  # in this step
        self.horizontal = Horizontal(net, batch, self.width)
        self.vertical = Vertical(net, batch, self.width) if net.rank >= 2 else None
        self.time = Time(net, batch, inner) if net.rank == 3 else None
        self.rows: list[Tensor] = []  # complete ones, of this frame or not yet seen by V
        self.seen_rows = 0  # of them
        self.frame: Tensor | None = None  # complete, not yet seen by T
        self.known = 0  # features of this row that H has worked out
        self.told: Tensor | None = None
        self.weights: Tensor | None = None  # of all layers' conditions
        self.maps_of: int | None = None  # the step that `maps` are of
        self.tell(told, steps)

    def tell(self, told: Tensor | None, steps: int | None = None) -> None:
        """The condition `[b, e, t|1, h|1, w|1]` from here on, for so many steps along the first
        axis; None is for all that follow.
        """
        if self.known > self.column or (self.rank > 1 and (self.row or self.column)):
            raise ValueError(
                "a step along the first axis has begun; what holds for it must be told before its "
                "first logits are asked for"
            )
        self._see_frame()
        if self.rank == 2:
            self._see_rows()
        self.told, self.told_from = told, self.steps
        self.maps: Tensor | None = None
        self.told_until = math.inf if steps is None else self.steps + steps
        self.ready = False  # whether H knows what this row adds

    def features(self) -> Tensor:
        """Features `[b, c]` of the next position."""
        self.catch_up()
        for column in range(self.known, self.column + 1):
            self.horizontal.step(column)
        self.known = self.column + 1
        return self.horizontal.skips

    def catch_up(self) -> None:
        """Let T and V see what is complete, and H what this row adds.

        Raises:
            ValueError: the condition was told for fewer steps.
        """
        if self.steps >= self.told_until:
            raise ValueError(
                f"the condition was told for {self.told_until - self.told_from} steps along the "
                f"first axis of the grid, and all are done; tell what holds for the next ones"
            )
        if not self.ready:
            self._see_frame()
            self._see_rows()
            self._begin_row()
            self.ready = True

    def settle(self) -> int:
        """Let every stack see all that stands before the next position; returns how many positions
        from there on stand side by side in the history, this row's and no more than it has room
        for.
        """
        self.catch_up()
        for column in range(self.known, self.column):
            self.horizontal.step(column)
        self.known = self.column
        room = self.horizontal.history.shape[1] - self.horizontal.place(self.column)
        if self.rank > 1 or len(self.horizontal.added) == 1:
            return room
        return min(room, len(self.horizontal.added) - (self.column - self.told_from))

    def advance(self, positions: int) -> None:
        """Go on by so many positions of this row, whose history another has filled in."""
        self.column += positions
        self.known = self.column
        if self.rank == 1:
            self.steps += positions
        elif self.column == self.width:
            self._end_row(self.horizontal.row())

    def push(self, embedding: Tensor) -> None:
        """Take the embedding `[b, c]` of the code at this position and go to the next."""
        if self.rank == 1 and self.known <= self.column:
            self.features()  # positions to the right need what every layer saw here
        self.horizontal.remember(embedding, self.column)
        self.column += 1
        if self.rank == 1:
            self.steps += 1
        elif self.column == self.width:
            self._end_row(self.horizontal.row())

    def prefill(self, embedded: Tensor, positions: int) -> None:
        """Take the first positions of `[b, *grid, c]` in one pass over the steps they touch; only
        at the very start.
        """
        assert not (self.steps or self.row or self.column), "prefill belongs at the start"
        self.steps, rest = divmod(positions, math.prod(embedded.shape[2:-1]))
        self.row, self.column = divmod(rest, self.width) if self.rank == 3 else (0, rest)
        touched = self.steps + (rest > 0)
        told, axis = self.told, 5 - self.rank
        if told is not None and told.shape[axis] > 1:
            told = told.narrow(axis, 0, touched)
        known = embedded[:, :touched].movedim(-1, 1)
        for index, streams in enumerate(self.net.streams(known, told)):
            if index < len(self.net.layers):
                self._fill(index, [stream.movedim(1, -1) for stream in streams])
        if self.rank == 1:
            self.column = positions
        self.known = self.column

    def _fill(self, index: int, streams: list[Tensor]) -> None:
        """What layer `index` took in `[b, t, h, w, c]` for H, V and T: as much as each stack has
        taken notice of. The last complete frame and row wait, as they would after a `push`.
        """
        left = streams[0][..., : self.net.width]  # the sum of skips stands beside it
        frame, row = (0, self.steps) if self.rank == 2 else (self.steps, self.row)
        if self.rank == 1:
            self.horizontal.fill(index, left[:, 0, 0, : self.steps])
            return
        if self.column:
            self.horizontal.fill(index, left[:, frame, row, : self.column])
        if row:
            assert self.vertical is not None
            self.vertical.fill(index, streams[1][:, frame, : row - 1])
            if index == 0:
                self.rows, self.seen_rows = list(left[:, frame, :row].unbind(1)), row - 1
        if self.rank == 3 and frame:
            assert self.time is not None
            self.time.fill(index, streams[2][:, : frame - 1])
            if index == 0:
                self.frame = left[:, frame - 1].clone()

    def _end_row(self, row: Tensor) -> None:
        self.column, self.known, self.ready = 0, 0, False
        self.horizontal.forget()
        if self.rank == 2:
            self._see_rows()
            self.rows, self.seen_rows = [row], 0
            self.steps += 1
            return
        self.rows.append(row)
        self.row += 1
        if self.row == self.height:
            self._see_frame()
            self.frame = torch.stack(self.rows, dim=1)
            self.rows, self.seen_rows, self.row = [], 0, 0
            self.steps += 1
            assert self.vertical is not None
            self.vertical.forget()

    def _see_frame(self) -> None:
        if self.frame is not None:
            assert self.time is not None
            maps = self._maps(self.steps - 1)
            self.time.step(self.frame, None if maps is None else maps[:, 2, :, 0])
            self.frame = None

    def _see_rows(self) -> None:
        for row in range(self.seen_rows, len(self.rows)):
            assert self.vertical is not None
            maps = self._maps(self.steps - (self.rank == 2))
            self.vertical.step(
                self.rows[row],
                self._from_past("to_vertical", row),
                None if maps is None else _at(maps[:, 1, :, 0], row),
            )
        self.seen_rows = len(self.rows)

    def _begin_row(self) -> None:
        parts = [self._from_past("to_horizontal", self.row)]
        if self.vertical is not None:
            parts.append(self.vertical.above)
        maps = self._maps(self.steps)
        if maps is not None:
            parts.append(_at(maps[:, 0, :, 0], self.row))
        added: Tensor | None = None
        for part in parts:
            added = part if added is None else added if part is None else added + part
        self.horizontal.begin_row(
            None if added is None else added.permute(2, 0, 1, 3),
            self.told_from if self.rank == 1 else 0,
        )

    def _from_past(self, name: str, row: int) -> Tensor | None:
        """What T gives one row of this frame `[layers, b, w, 2c]`; nothing in the first frame."""
        given = getattr(self.time, name, None)
        return None if given is None else given[:, :, row]

    def _maps(self, step: int) -> Tensor | None:
        """What the condition adds before the gates `[layers, stack, b, t|1, h|1, w|1, 2c]`, in one
        step along the first axis; at rank 1 in all steps told of. Worked out once for each.
        """
        if self.told is None:
            return None
        told, axis = self.told, 5 - self.rank
        index = step - self.told_from if self.rank > 1 and told.shape[axis] > 1 else None
        if self.maps is None or self.maps_of != index:
            here = told if index is None else told.narrow(axis, index, 1)
            if self.weights is None:
                each = [layer.cond.weight.flatten(1) for layer in self.net.layers]  # type: ignore[union-attr, operator]
                self.weights = torch.cat(each).detach()
            maps = F.linear(here.movedim(1, -1), self.weights)
            maps = maps.unflatten(-1, (len(self.net.layers), self.rank, -1))
            self.maps, self.maps_of = maps.permute(4, 5, 0, 1, 2, 3, 6), index
        return self.maps


def _at(maps: Tensor, row: int) -> Tensor:
    """One row of `[layers, b, h|1, w|1, 2c]`."""
    return maps[:, :, row if maps.shape[2] > 1 else 0]
