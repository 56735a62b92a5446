"""Step-by-step evaluation of T, V and H, the stacks of the causal network (`vqvideo.nets.causal`).

All layers of a stack are evaluated together. Channels are the last axis here. Each stack keeps the
past inputs it needs in its own buffers and converts its weights once to the matrices of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.nets.causal import CausalLayer, CausalNet, gate

MIN_HISTORY_SIZE = 64  # smallest capacity of the history of a row without end


class TimeStack:
    """T, evaluated one frame at a time.

    Attributes:
        to_vertical, to_horizontal: contributions of past frames to V and H in the next frame,
            `[layers, b, h, w, 2c]`; None in the first frame.
    """

    def __init__(self, net: CausalNet, batch: int, inner: tuple[int, ...]) -> None:
        self.layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like = next(net.parameters())
        self.frame_buffers = [  # the last input frames of each layer, oldest first
            [like.new_zeros(batch, *inner, net.width)] * (layer.time.kernel_size[0] - 1)
            for layer in self.layers
        ]
        # As a 2D convolution with the frames concatenated along channels, which is faster than a
        # 3D convolution that computes one frame.
        self.weights = [_flatten_kernel(layer.time.weight.transpose(1, 2)) for layer in self.layers]
        self.out_weights = [
            torch.cat([layer.time_to_vertical.weight, layer.time_to_horizontal.weight]).flatten(1)
            for layer in self.layers
        ]
        self.to_vertical: Tensor | None = None
        self.to_horizontal: Tensor | None = None

    def prefill(self, index: int, frames: Tensor) -> None:
        """Store the previous inputs `[b, t, h, w, c]` of layer `index`."""
        buffers = self.frame_buffers[index]
        recent = frames[:, max(0, frames.shape[1] - len(buffers)) :].unbind(1)
        # Copies, since the next layer updates its streams in place.
        buffers[len(buffers) - len(recent) :] = [frame.clone() for frame in recent]

    @torch.no_grad()
    def step(self, frame: Tensor, cond_biases: Tensor | None) -> None:
        """Process a frame `[b, h, w, c]`; `cond_biases` is `[layers, b, h|1, w|1, 2c]`."""
        outputs = []
        for index, layer in enumerate(self.layers):
            frames = [*self.frame_buffers[index], frame]
            self.frame_buffers[index] = frames[1:]
            stacked = torch.cat(frames, dim=-1).movedim(-1, 1)
            bias, padding = _get_bias(layer.time), layer.kernel_radius
            pre = F.conv2d(stacked, self.weights[index], bias, padding=padding).movedim(1, -1)
            outputs.append(F.linear(pre, self.out_weights[index]))
            if index + 1 < len(self.layers):
                update = gate(pre, None if cond_biases is None else cond_biases[index], dim=-1)
                frame = update if layer.is_first else frame + update
        self.to_vertical, self.to_horizontal = torch.stack(outputs).chunk(2, dim=-1)


class VerticalStack:
    """V, evaluated one row at a time.

    Attributes:
        to_horizontal: contributions of past rows to H in the next row, `[layers, b, w, 2c]`.
    """

    def __init__(self, net: CausalNet, batch: int, width: int) -> None:
        self.layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like, c = next(net.parameters()), net.width
        self.width, self.gate_scale = width, _build_gate_scale(like, c)
        radii = [layer.kernel_radius for layer in self.layers]
        self.row_buffers = [  # the last input rows of each layer and the next, zero-padded
            like.new_zeros(batch, radius + 1, width + 2 * radius, c) for radius in radii
        ]
        self.to_horizontal = like.new_zeros(len(self.layers), batch, width, 2 * c)
        self.pre_activations = torch.zeros_like(self.to_horizontal)
        self.weights: list[Tensor] = []

    def _pack_weights(self) -> None:
        """Convert the weights on first use, since `FusedVerticalStack` does not need them."""
        scale, layers = self.gate_scale, self.layers
        self.weights = [
            _flatten_kernel(layer.vertical.weight * scale.view(-1, 1, 1, 1, 1)) for layer in layers
        ]
        self.biases = [_get_bias(layer.vertical) * scale for layer in layers]
        out_weights = [layer.vertical_to_horizontal.weight.flatten(1) for layer in layers]
        self.out_weights = (torch.stack(out_weights) / scale).transpose(1, 2)

    def reset(self) -> None:
        """Clear the buffers for a new frame."""
        self.to_horizontal.zero_()
        for rows in self.row_buffers:
            rows.zero_()

    def prefill(self, index: int, rows: Tensor) -> None:
        """Store the previous inputs `[b, h, w, c]` of layer `index`."""
        radius = self.layers[index].kernel_radius
        recent = rows[:, -radius - 1 :]
        first = radius + 1 - recent.shape[1]
        self.row_buffers[index][:, first:, radius : radius + self.width] = recent

    @torch.no_grad()
    def step(self, row: Tensor, time_bias: Tensor | None, cond_biases: Tensor | None) -> None:
        """Process a row `[b, w, c]`.

        Args:
            row: inputs of the first layer.
            time_bias: contribution of T, `[layers, b, w, 2c]`; None without past frames.
            cond_biases: biases from the condition, `[layers, b, w|1, 2c]`.
        """
        if not self.weights:
            self._pack_weights()
        if time_bias is not None:
            self.pre_activations.copy_(time_bias).mul_(self.gate_scale)
        for index, rows in enumerate(self.row_buffers):
            pre, radius = self.pre_activations[index], rows.shape[1] - 1
            rows[:, :-1] = rows[:, 1:] if radius == 1 else rows[:, 1:].clone()
            rows[:, -1, radius : radius + self.width] = row
            conv_out = F.conv2d(rows.movedim(-1, 1), self.weights[index], self.biases[index])
            conv_out = conv_out[:, :, 0].movedim(1, -1)
            if time_bias is None:
                pre.copy_(conv_out)
            else:
                pre.add_(conv_out)
            if index + 1 < len(self.row_buffers):  # the stream after the last layer is unused
                bias = None if cond_biases is None else cond_biases[index]
                biased = pre if bias is None else pre.addcmul(bias, self.gate_scale)
                a, b = biased.sigmoid().chunk(2, dim=-1)
                negative = torch.addcmul(b, a, b, value=-2)
                row = -negative if index == 0 else row - negative
        out = self.to_horizontal.flatten(1, 2)
        torch.bmm(self.pre_activations.flatten(1, 2), self.out_weights, out=out)


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
        self.channels, self.num_layers, self.endless = c, num_layers, not width
        self.dilations = [layer.dilation for layer in layers]
        self.pad = max(layer.kernel_radius * layer.dilation for layer in layers)
        size = width or max(MIN_HISTORY_SIZE, self.pad)
        self.history = like.new_zeros(num_layers, self.pad + size, batch, c)
        self.history_start = 0  # the column of the first slot after the pad
        self.gate_scale = _build_gate_scale(like, c)
        self.bias = torch.stack([_get_bias(layer.horizontal) for layer in layers]) * self.gate_scale
        kernels = [  # [taps, c, 2c], leftmost tap first
            layer.horizontal.weight[:, :, 0, 0].permute(2, 1, 0) * self.gate_scale
            for layer in layers
        ]
        self.first_weight = kernels[0].flatten(0, 1)
        self.first_kernel_radius = layers[0].kernel_radius
        # The last tap is the position itself; the first layer excludes it.
        self.self_weights = torch.stack([kernel[-1] for kernel in kernels])[1:]
        self.kernel_radius = radius = max((layer.kernel_radius for layer in layers[1:]), default=0)
        left_weights = like.new_zeros(num_layers - 1, radius, c, 2 * c)
        tap_indices = torch.zeros(num_layers - 1, radius, dtype=torch.int64, device=like.device)
        for index, (layer, kernel) in enumerate(zip(layers[1:], kernels[1:], strict=True)):
            left_weights[index, radius - layer.kernel_radius :] = kernel[:-1]
            offsets = torch.arange(radius, 0, -1, device=like.device).clamp(max=layer.kernel_radius)
            tap_indices[index] = (index + 1) * self.history.shape[1] - offsets * layer.dilation
        self.left_weights = left_weights.flatten(1, 2)
        out = [torch.cat([-x.out.weight.flatten(1).T, _get_bias(x.out)[None]]) for x in layers]
        self.out_weights = torch.stack(out)
        self.pre_activations = like.new_zeros(num_layers, batch, 2 * c)
        self.residual_and_skip = like.new_zeros(batch, 2 * c)  # residual stream, sum of skips
        self.layer_inputs = like.new_zeros(num_layers - 1, batch, c)  # of all but the first layer
        self.gate_outputs = like.new_ones(batch, c + 1)  # the last channel, 1, is for the bias
        self._build_views(tap_indices.flatten())

    def _build_views(self, tap_indices: Tensor) -> None:
        """Build the slices once, since a slice costs as much as a small product."""
        c = self.channels
        self.flat_history = self.history.flatten(0, 1)
        self.history_rows = self.history[1:].unbind(1)
        slots = torch.arange(self.pad, self.history.shape[1], device=tap_indices.device)
        # Indices into `flat_history` for each slot.
        self.tap_indices_by_slot = (slots[:, None] + tap_indices).unbind(0)
        self.first_history_rows = self.history[0].unbind(0)
        self.residual, self.skips = self.residual_and_skip[:, :c], self.residual_and_skip[:, c:]
        self.first_pre, self.later_pre = self.pre_activations[0], self.pre_activations[1:]
        weights = self.layer_inputs, self.self_weights, self.out_weights[1:]
        self.layer_views = [
            (pre, pre[:, :c], pre[:, c:], *views)
            for pre, *views in zip(self.later_pre, *weights, strict=True)
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
        slot, biases = self.get_slot(column), self.row_biases_by_column
        row_biases = biases[column - self.row_biases_start if len(biases) > 1 else 0]
        batch, dilation = row_biases.shape[1], self.dilations[0]
        if self.first_kernel_radius == 1:
            window = self.first_history_rows[slot - dilation]
        else:
            window = self.history[0, slot - self.first_kernel_radius * dilation : slot : dilation]
            window = window.transpose(0, 1).reshape(batch, -1)
        torch.addmm(row_biases[0], window, self.first_weight, out=self.first_pre)
        if self.num_layers > 1:
            left = self.flat_history.index_select(0, self.tap_indices_by_slot[slot - self.pad])
            if self.kernel_radius > 1:
                left = left.view(self.num_layers - 1, -1, batch, self.channels)
                left = left.transpose(1, 2).reshape(self.num_layers - 1, batch, -1)
            torch.baddbmm(row_biases[1:], left, self.left_weights, out=self.later_pre)
        gate_view, gate_outputs = self.gate_view, self.gate_outputs
        a, b = self.first_pre.sigmoid_().chunk(2, dim=-1)
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


def _build_gate_scale(like: Tensor, channels: int) -> Tensor:
    """Return the factors `[2c]` of the pre-activations of a gate: 2 for the first half, 1 for the
    second.

    With a and b the sigmoids of the two scaled halves, the gate is 2 a b - b; the stacks compute
    b - 2 a b and negate it. See `vqvideo.nets.causal.gate`.
    """
    return like.new_tensor([2.0] * channels + [1.0] * channels)


def _flatten_kernel(weight: Tensor) -> Tensor:
    """Return a weight `[o, ..., kh, kw]` as that of a 2D convolution, in channels-last format."""
    flat = weight.reshape(len(weight), -1, *weight.shape[-2:])
    return flat.contiguous(memory_format=torch.channels_last)


def _get_bias(layer: nn.Conv3d) -> Tensor:
    """Return the bias of a layer that must have one."""
    assert layer.bias is not None
    return layer.bias.detach()
