"""Step-by-step evaluation of the causal network: T once per frame, V once per row, H once per
position.

The state is kept outside the modules, so any number of samplers can share a network. Evaluation is
lazy: a frame that is only pushed is processed by T alone, a row by V alone, and H runs only up to
the positions whose features are requested.

The first axis of the grid may be of any length. Only the receptive field is kept, so memory does
not grow, and the features equal the ones of a pass over the whole sequence.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.incremental.stacks import HorizontalStack, TimeStack, VerticalStack
from vqvideo.nets.causal import CausalNet


class CausalState:
    """State of a `CausalNet` that is evaluated over a grid in raster order.

    Call `compute_features()` for the features of the next position if you need them, then
    `push()` its embedding.

    Args:
        net: the network; its weights are not modified.
        batch: number of samples.
        inner_shape: sizes of all axes of the grid except the first.
        cond, num_steps: the condition of the first steps along the first axis; see
            `set_condition`.
    """

    def __init__(
        self,
        net: CausalNet,
        batch: int,
        inner_shape: tuple[int, ...],
        cond: Tensor | None = None,
        num_steps: int | None = None,
    ) -> None:
        assert len(inner_shape) == net.rank - 1
        self.net, self.rank = net, net.rank
        # 0 for an axis that is missing or the first one
        self.height, self.width = (0, 0, *inner_shape)[-2:]
        self.num_steps = 0  # completed steps along the first axis
        self.row, self.column = 0, 0  # position within the current step
        self.horizontal = HorizontalStack(net, batch, self.width)
        self.vertical = VerticalStack(net, batch, self.width) if net.rank >= 2 else None
        self.time = TimeStack(net, batch, inner_shape) if net.rank == 3 else None
        # Completed rows of this frame (rank 2: the last one), and how many V has processed.
        self.pending_rows: list[Tensor] = []
        self.num_processed_rows = 0
        self.pending_frame: Tensor | None = None  # completed frame, not yet processed by T
        self.num_computed = 0  # number of positions of this row that H has computed
        self.cond: Tensor | None = None
        self.cond_weights: Tensor | None = None  # condition projections of all layers
        self.cond_biases_step: int | None = None  # the step that `cond_biases` belong to
        self.set_condition(cond, num_steps)

    def set_condition(self, cond: Tensor | None, num_steps: int | None = None) -> None:
        """Set the condition `[b, e, t|1, h|1, w|1]` of the next `num_steps` steps along the first
        axis, or of all following steps if `num_steps` is None.

        Raises:
            ValueError: the current step along the first axis has already begun.
        """
        if self.num_computed > self.column or (self.rank > 1 and (self.row or self.column)):
            raise ValueError(
                "the current step along the first axis has already begun; set its condition before "
                "its first logits are computed"
            )
        self._process_frame()
        if self.rank == 2:
            self._process_rows()
        self.cond, self.cond_start = cond, self.num_steps
        self.cond_biases: Tensor | None = None
        self.cond_end = math.inf if num_steps is None else self.num_steps + num_steps
        self.is_row_started = False  # whether H has the biases of this row

    def compute_features(self) -> Tensor:
        """Return features `[b, c]` of the next position."""
        self._run_horizontal(self.column + 1)
        return self.horizontal.skips

    def _run_horizontal(self, end: int) -> None:
        """Process completed frames and rows with T and V, and this row up to `end` with H.

        Raises:
            ValueError: the condition covers fewer steps.
        """
        if self.num_steps >= self.cond_end:
            raise ValueError(
                f"the condition covers {self.cond_end - self.cond_start} steps along the first "
                f"axis of the grid, and all are done; set the condition of the next steps"
            )
        if not self.is_row_started:
            self._process_frame()
            self._process_rows()
            self._start_row()
            self.is_row_started = True
        for column in range(self.num_computed, end):
            self.horizontal.step(column)
        self.num_computed = end

    def flush(self) -> int:
        """Process all positions before the next one with every stack.

        Returns:
            Number of the next positions of this row that have contiguous slots in the history of
            H (and, at rank 1, a condition).
        """
        self._run_horizontal(self.column)
        num_slots = self.horizontal.history.shape[1] - self.horizontal.get_slot(self.column)
        if self.rank > 1 or len(self.horizontal.row_biases) == 1:
            return num_slots
        return min(num_slots, len(self.horizontal.row_biases) - (self.column - self.cond_start))

    def advance(self, num_positions: int) -> None:
        """Advance by `num_positions` of this row, whose history the caller has filled in."""
        self.num_computed = self.column + num_positions
        self._advance(num_positions)

    def _advance(self, num_positions: int) -> None:
        self.column += num_positions
        if self.rank == 1:
            self.num_steps += num_positions
        elif self.column == self.width:
            self._end_row(self.horizontal.get_row())

    def push(self, embedding: Tensor) -> None:
        """Store the embedding `[b, c]` of the current position and advance to the next."""
        if self.rank == 1 and self.num_computed <= self.column:
            self.compute_features()  # positions to the right need every layer's input here
        self.horizontal.push(embedding, self.column)
        self._advance(1)

    def prefill(self, embeddings: Tensor, num_positions: int) -> None:
        """Process the first `num_positions` of embeddings `[b, *grid, c]` in one pass.

        Only a new state can be prefilled.
        """
        assert not (self.num_steps or self.row or self.column), "prefill requires a new state"
        self.num_steps, rest = divmod(num_positions, math.prod(embeddings.shape[2:-1]))
        self.row, self.column = divmod(rest, self.width) if self.rank == 3 else (0, rest)
        num_touched = self.num_steps + (rest > 0)
        cond, axis = self.cond, 5 - self.rank
        if cond is not None and cond.shape[axis] > 1:
            cond = cond.narrow(axis, 0, num_touched)
        known = embeddings[:, :num_touched].movedim(-1, 1)
        for index, streams in enumerate(self.net.iter_streams(known, cond)):
            if index < len(self.net.layers):
                self._prefill_layer(index, [stream.movedim(1, -1) for stream in streams])
        if self.rank == 1:
            self.column = num_positions
        self.num_computed = self.column

    def _prefill_layer(self, index: int, streams: list[Tensor]) -> None:
        """Store the inputs `[b, t, h, w, c]` of layer `index` of H, V and T in their buffers.

        The last completed frame and row stay pending, as after a `push`.
        """
        left = streams[0][..., : self.net.width]  # without the sum of skip features
        frame, row = (0, self.num_steps) if self.rank == 2 else (self.num_steps, self.row)
        if self.rank == 1:
            self.horizontal.prefill(index, left[:, 0, 0, : self.num_steps])
            return
        if self.column:
            self.horizontal.prefill(index, left[:, frame, row, : self.column])
        if row:
            assert self.vertical is not None
            self.vertical.prefill(index, streams[1][:, frame, : row - 1])
            if index == 0:
                self.pending_rows = list(left[:, frame, :row].unbind(1))
                self.num_processed_rows = row - 1
        if self.rank == 3 and frame:
            assert self.time is not None
            self.time.prefill(index, streams[2][:, : frame - 1])
            if index == 0:
                self.pending_frame = left[:, frame - 1].clone()

    def _end_row(self, row: Tensor) -> None:
        self.column, self.num_computed, self.is_row_started = 0, 0, False
        self.horizontal.reset()
        if self.rank == 2:
            self._process_rows()
            self.pending_rows, self.num_processed_rows = [row], 0
            self.num_steps += 1
            return
        self.pending_rows.append(row)
        self.row += 1
        if self.row == self.height:
            self._process_frame()
            self.pending_frame = torch.stack(self.pending_rows, dim=1)
            self.pending_rows, self.num_processed_rows, self.row = [], 0, 0
            self.num_steps += 1
            assert self.vertical is not None
            self.vertical.reset()

    def _process_frame(self) -> None:
        if self.pending_frame is not None:
            assert self.time is not None
            biases = self._compute_cond_biases(self.num_steps - 1)
            self.time.step(self.pending_frame, None if biases is None else biases[:, 2, :, 0])
            self.pending_frame = None

    def _process_rows(self) -> None:
        for row in range(self.num_processed_rows, len(self.pending_rows)):
            assert self.vertical is not None
            biases = self._compute_cond_biases(self.num_steps - (self.rank == 2))
            self.vertical.step(
                self.pending_rows[row],
                self._get_time_bias("to_vertical", row),
                None if biases is None else _select_row(biases[:, 1, :, 0], row),
            )
        self.num_processed_rows = len(self.pending_rows)

    def _start_row(self) -> None:
        parts = [self._get_time_bias("to_horizontal", self.row)]
        if self.vertical is not None:
            parts.append(self.vertical.to_horizontal)
        biases = self._compute_cond_biases(self.num_steps)
        if biases is not None:
            parts.append(_select_row(biases[:, 0, :, 0], self.row))
        total: Tensor | None = None
        for part in parts:
            total = part if total is None else total if part is None else total + part
        self.horizontal.start_row(
            None if total is None else total.permute(2, 0, 1, 3),
            self.cond_start if self.rank == 1 else 0,
        )

    def _get_time_bias(self, name: str, row: int) -> Tensor | None:
        """Return the output of T for one row, `[layers, b, w, 2c]`; None in the first frame."""
        output = getattr(self.time, name, None)
        return None if output is None else output[:, :, row]

    def _compute_cond_biases(self, step: int) -> Tensor | None:
        """Return the biases from the condition, `[layers, stack, b, t|1, h|1, w|1, 2c]`.

        They are added before the gates. They are computed once per step along the first axis, at
        rank 1 once for all steps of the condition.
        """
        if self.cond is None:
            return None
        cond, axis = self.cond, 5 - self.rank
        index = step - self.cond_start if self.rank > 1 and cond.shape[axis] > 1 else None
        if self.cond_biases is None or self.cond_biases_step != index:
            step_cond = cond if index is None else cond.narrow(axis, index, 1)
            if self.cond_weights is None:
                weights = [layer.cond_proj.weight.flatten(1) for layer in self.net.layers]  # type: ignore[union-attr, operator]
                self.cond_weights = torch.cat(weights).detach()
            biases = F.linear(step_cond.movedim(1, -1), self.cond_weights)
            biases = biases.unflatten(-1, (len(self.net.layers), self.rank, -1))
            self.cond_biases, self.cond_biases_step = biases.permute(4, 5, 0, 1, 2, 3, 6), index
        return self.cond_biases


def _select_row(cond_biases: Tensor, row: int) -> Tensor:
    """Return one row `[layers, b, w|1, 2c]` of biases `[layers, b, h|1, w|1, 2c]`."""
    return cond_biases[:, :, row if cond_biases.shape[2] > 1 else 0]
