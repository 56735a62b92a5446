"""Step-by-step evaluation of H, the horizontal stack of the causal network, all layers together.

See stacks.py for the other stacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.nets.causal import CausalLayer, CausalNet
from vqvideo.nets.stacks import build_gate_scale, get_bias

MIN_HISTORY_SIZE = 64  # smallest capacity of the history of a row without end


class HorizontalStack:
    """H, evaluated one position at a time.

    The history holds the inputs of all layers, `[layers, positions, b, c]`. The contributions of
    positions to the left are computed by one batched product for all layers, since they do not
    depend on the current position; then each layer needs two products and a gate.

    Args:
        net: the network.
        batch: number of samples.
        width: number of positions in a row; 0 for a row without end.
    """

    def __init__(self, net: CausalNet, batch: int, width: int) -> None:
        layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like, c, num_layers = next(net.parameters()), net.width, len(layers)
        self.channels, self.num_layers = c, num_layers
        self.endless = not width
        self.pad = max(layer.kernel_radius * layer.dilation for layer in layers)
        size = width or max(MIN_HISTORY_SIZE, self.pad)
        self.history = like.new_zeros(num_layers, self.pad + size, batch, c)
        self.history_start = 0  # the column of the first slot after the pad
        self.gate_scale = build_gate_scale(like, c)
        self.bias = torch.stack([get_bias(layer.horizontal) for layer in layers]) * self.gate_scale
        kernels = [
            layer.horizontal.weight[:, :, 0, 0].permute(2, 1, 0) * self.gate_scale
            for layer in layers
        ]  # [taps, c, 2c], leftmost tap first
        self.dilations = [layer.dilation for layer in layers]
        self.first_kernel_radius = layers[0].kernel_radius
        self.first_weight = kernels[0].flatten(0, 1)
        last_taps = torch.stack([kernel[-1] for kernel in kernels])
        self.self_weights = last_taps[1:]  # the first layer excludes its own position
        self.kernel_radius = radius = max((layer.kernel_radius for layer in layers[1:]), default=0)
        self.left_weights = like.new_zeros(num_layers - 1, radius, c, 2 * c)
        self.tap_indices = torch.zeros(
            num_layers - 1, radius, dtype=torch.int64, device=like.device
        )
        for index, (layer, kernel) in enumerate(zip(layers[1:], kernels[1:], strict=True)):
            self.left_weights[index, radius - layer.kernel_radius :] = kernel[:-1]
            offsets = torch.arange(radius, 0, -1, device=like.device).clamp(max=layer.kernel_radius)
            self.tap_indices[index] = (index + 1) * self.history.shape[1] - offsets * layer.dilation
        self.tap_indices, self.left_weights = (
            self.tap_indices.flatten(),
            self.left_weights.flatten(1, 2),
        )
        self.out_weights = torch.stack(
            [
                torch.cat([-layer.out.weight.flatten(1).T, get_bias(layer.out)[None]])
                for layer in layers
            ]
        )
        self.pre_activations = like.new_zeros(num_layers, batch, 2 * c)
        self.residual_and_skip = like.new_zeros(batch, 2 * c)  # residual stream, sum of skips
        self.layer_inputs = like.new_zeros(num_layers - 1, batch, c)  # of all but the first layer
        self.gate_outputs = like.new_ones(batch, c + 1)  # the last channel, 1, is for the bias
        self._build_views()

    def _build_views(self) -> None:
        """Build the slices once, since a slice costs as much as a small product."""
        c = self.channels
        self.flat_history = self.history.flatten(0, 1)
        self.history_rows = self.history[1:].unbind(1)
        slots = torch.arange(self.pad, self.history.shape[1], device=self.tap_indices.device)
        # Indices into `flat_history` for each slot.
        self.tap_indices_by_slot = (slots[:, None] + self.tap_indices).unbind(0)
        self.first_history_rows = self.history[0].unbind(0)
        self.residual, self.skips = self.residual_and_skip[:, :c], self.residual_and_skip[:, c:]
        self.first_pre_activation, self.later_pre_activations = (
            self.pre_activations[0],
            self.pre_activations[1:],
        )
        self.layer_views = [
            (pre, pre[:, :c], pre[:, c:], layer_input, self_weight, out_weight)
            for pre, layer_input, self_weight, out_weight in zip(
                self.later_pre_activations,
                self.layer_inputs,
                self.self_weights,
                self.out_weights[1:],
                strict=True,
            )
        ]
        self.gate_view = self.gate_outputs[:, :c]

    def reset(self) -> None:
        """Clear the history for a new row."""
        self.history.zero_()

    def start_row(self, biases: Tensor | None, start: int = 0) -> None:
        """Set the biases `[w|1, layers, b, 2c]` of this row, for w columns from `start` on."""
        bias = self.bias[:, None].expand(-1, self.pre_activations.shape[1], -1)
        total = bias[None] if biases is None else torch.addcmul(bias, biases, self.gate_scale)
        self.row_biases = total.contiguous()
        self.row_biases_by_column = self.row_biases.unbind(0)
        self.row_biases_start = start

    def prefill(self, index: int, columns: Tensor) -> None:
        """Store the previous inputs `[b, w, c]` of layer `index` in this row."""
        recent = columns.transpose(0, 1)
        if self.endless:
            self.history_start = len(recent)
            recent = recent[-self.pad :]
            self.history[index, self.pad - len(recent) : self.pad] = recent
        else:
            self.history[index, self.pad : self.pad + len(recent)] = recent

    def get_row(self) -> Tensor:
        """Return the embeddings `[b, w, c]` of the row."""
        return self.history[0, self.pad :].transpose(0, 1).clone()

    def push(self, embedding: Tensor, column: int) -> None:
        """Store the embedding `[b, c]` at `column` for the positions to its right."""
        self.first_history_rows[self.get_slot(column)].copy_(embedding)

    def step(self, column: int) -> Tensor:
        """Return skip features `[b, c]` at `column`, given the stored embeddings to its left."""
        slot = self.get_slot(column)
        row_biases = self.row_biases_by_column[
            column - self.row_biases_start if len(self.row_biases) > 1 else 0
        ]
        batch = row_biases.shape[1]
        radius, dilation = self.first_kernel_radius, self.dilations[0]
        if radius == 1:
            window = self.first_history_rows[slot - dilation]
        else:
            window = self.history[0, slot - radius * dilation : slot : dilation]
            window = window.transpose(0, 1).reshape(batch, -1)
        torch.addmm(row_biases[0], window, self.first_weight, out=self.first_pre_activation)
        if self.num_layers > 1:
            left = self.flat_history.index_select(0, self.tap_indices_by_slot[slot - self.pad])
            if self.kernel_radius > 1:
                left = left.view(self.num_layers - 1, -1, batch, self.channels)
                left = left.transpose(1, 2).reshape(self.num_layers - 1, batch, -1)
            torch.baddbmm(row_biases[1:], left, self.left_weights, out=self.later_pre_activations)
        gate_view, gate_outputs = self.gate_view, self.gate_outputs
        a, b = self.first_pre_activation.sigmoid_().chunk(2, dim=-1)
        torch.addcmul(b, a, b, value=-2, out=gate_view)
        torch.mm(gate_outputs, self.out_weights[0], out=self.residual_and_skip)
        residual_and_skip, stream = self.residual_and_skip, self.residual
        for pre, a, b, layer_input, self_weight, out_weight in self.layer_views:
            layer_input.copy_(stream)
            pre.addmm_(stream, self_weight).sigmoid_()
            torch.addcmul(b, a, b, value=-2, out=gate_view)
            residual_and_skip.addmm_(gate_outputs, out_weight)
        if self.num_layers > 1:
            self.history_rows[slot].copy_(self.layer_inputs)
        return self.skips

    def get_slot(self, column: int) -> int:
        """Return the slot of a column in the history; shift a full history of an endless row."""
        slot = column - self.history_start + self.pad
        if slot == self.history.shape[1]:
            self.history[:, : self.pad] = self.history[:, slot - self.pad :].clone()
            self.history_start, slot = column, self.pad
        return slot
