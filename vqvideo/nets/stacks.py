"""Step-by-step evaluation of T and V, the time and vertical stacks of the causal network.

All layers of a stack are evaluated together. Channels are the last axis here. Each stack keeps the
past inputs it needs in its own buffers and converts its weights once to the matrices of a step.
H is in horizontal_stack.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.nets.causal import CausalLayer, CausalNet, gate


class TimeStack:
    """T, evaluated one frame at a time.

    Attributes:
        to_vertical, to_horizontal: contributions of past frames to V and H in the next frame,
            `[layers, b, h, w, 2c]`.
    """

    def __init__(self, net: CausalNet, batch: int, inner: tuple[int, ...]) -> None:
        self.layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like, c = next(net.parameters()), net.width
        self.frame_buffers = [  # the last input frames of each layer, oldest first
            [like.new_zeros(batch, *inner, c) for _ in range(layer.time.kernel_size[0] - 1)]
            for layer in self.layers
        ]
        # As a 2D convolution with the frames concatenated along channels, which is faster than a
        # 3D convolution that computes one frame.
        self.weights = [_flatten_kernel(layer.time.weight.transpose(1, 2)) for layer in self.layers]
        self.biases = [get_bias(layer.time) for layer in self.layers]
        self.out_weights = [
            torch.cat([layer.time_to_vertical.weight, layer.time_to_horizontal.weight]).flatten(1)
            for layer in self.layers
        ]

    def prefill(self, index: int, frames: Tensor) -> None:
        """Store the previous inputs `[b, t, h, w, c]` of layer `index`."""
        frame_buffers = self.frame_buffers[index]
        for age, frame in enumerate(
            reversed(frames.unbind(1)[-len(frame_buffers) :] if frame_buffers else ())
        ):
            # A copy, since the next layer updates its streams in place.
            frame_buffers[-1 - age] = frame.clone()

    @torch.no_grad()
    def step(self, frame: Tensor, cond_biases: Tensor | None) -> None:
        """Process a frame `[b, h, w, c]`; `cond_biases` is `[layers, b, h|1, w|1, 2c]`."""
        outputs = []
        for index, layer in enumerate(self.layers):
            frames = [*self.frame_buffers[index], frame]
            self.frame_buffers[index] = frames[1:]
            stacked = torch.cat(frames, dim=-1).movedim(-1, 1)
            pre = F.conv2d(
                stacked, self.weights[index], self.biases[index], padding=layer.kernel_radius
            ).movedim(1, -1)
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
        layers, like, c = self.layers, next(net.parameters()), net.width
        self.kernel_radii = [layer.kernel_radius for layer in layers]
        self.width, self.gate_scale = width, build_gate_scale(like, c)
        self.row_buffers = [  # the last input rows of each layer and the next, zero-padded
            like.new_zeros(batch, radius + 1, width + 2 * radius, c) for radius in self.kernel_radii
        ]
        self.to_horizontal = like.new_zeros(len(layers), batch, width, 2 * c)
        self.pre_activations = like.new_zeros(len(layers), batch, width, 2 * c)
        self.weights: list[Tensor] = []

    def _pack_weights(self) -> None:
        """Convert the weights on first use, since `FusedVerticalStack` does not need them."""
        self.weights = [
            _flatten_kernel(layer.vertical.weight * self.gate_scale.view(-1, 1, 1, 1, 1))
            for layer in self.layers
        ]
        self.biases = [get_bias(layer.vertical) * self.gate_scale for layer in self.layers]
        weights = torch.stack(
            [layer.vertical_to_horizontal.weight.flatten(1) for layer in self.layers]
        )
        self.out_weights = (weights / self.gate_scale).transpose(1, 2)

    def reset(self) -> None:
        """Clear the buffers for a new frame."""
        self.to_horizontal.zero_()
        for rows in self.row_buffers:
            rows.zero_()

    def prefill(self, index: int, rows: Tensor) -> None:
        """Store the previous inputs `[b, h, w, c]` of layer `index`."""
        radius = self.kernel_radii[index]
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
        for index, (rows, radius, pre) in enumerate(
            zip(self.row_buffers, self.kernel_radii, self.pre_activations, strict=True)
        ):
            rows[:, :-1] = rows[:, 1:] if radius == 1 else rows[:, 1:].clone()
            rows[:, -1, radius : radius + self.width] = row
            conv_out = F.conv2d(rows.movedim(-1, 1), self.weights[index], self.biases[index])
            conv_out = conv_out[:, :, 0].movedim(1, -1)
            if time_bias is None:
                pre.copy_(conv_out)
            else:
                pre.add_(conv_out)
            if index + 1 < len(self.row_buffers):  # the stream after the last layer is unused
                biased = (
                    pre if cond_biases is None else pre.addcmul(cond_biases[index], self.gate_scale)
                )
                a, b = biased.sigmoid().chunk(2, dim=-1)
                negative = torch.addcmul(b, a, b, value=-2)
                row = -negative if index == 0 else row - negative
        torch.bmm(
            self.pre_activations.flatten(1, 2),
            self.out_weights,
            out=self.to_horizontal.flatten(1, 2),
        )


def build_gate_scale(like: Tensor, channels: int) -> Tensor:
    """Return the factors `[2c]` of the pre-activations of a gate: 2 for the first half, 1 for the
    second.

    With a and b the sigmoids of the two scaled halves, the gate is 2 a b - b; the stacks compute
    b - 2 a b and negate it. See `vqvideo.nets.causal.gate`.
    """
    return like.new_tensor([2.0] * channels + [1.0] * channels)


def _flatten_kernel(weight: Tensor) -> Tensor:
    """Reshape the weight `[o, ..., kh, kw]` of a 3D convolution to that of a 2D convolution, in
    channels-last memory format.
    """
    flat = weight.reshape(len(weight), -1, *weight.shape[-2:])
    return flat.contiguous(memory_format=torch.channels_last)


def get_bias(layer: nn.Conv3d) -> Tensor:
    """Return the bias of a layer that must have one."""
    assert layer.bias is not None
    return layer.bias.detach()
