"""T and V of the causal core in their step-by-step form, all layers of a stack together; H is in
horizontal.py.

Channels stand last here. What a stack needs of the past is in its own buffers, and its weights
are laid out once, when it is made, as the matrices that a step multiplies by.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.nets.causal import CausalLayer, CausalNet, gate


class Time:
    """T a frame at a time.

    Attributes:
        to_vertical, to_horizontal: what the frames seen give the next one `[layers, b, h, w, 2c]`.
    """

    def __init__(self, net: CausalNet, batch: int, inner: tuple[int, ...]) -> None:
        self.layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like, c = next(net.parameters()), net.width
        self.past = [  # the last frames that a layer took in, oldest first
            [like.new_zeros(batch, *inner, c) for _ in range(layer.time.kernel_size[0] - 1)]
            for layer in self.layers
        ]
        # As a convolution in the plane, the frames side by side among the channels: less work
        # for a convolution library than one frame of a convolution in space and time.
        self.weights = [_flat(layer.time.weight.transpose(1, 2)) for layer in self.layers]
        self.biases = [bias_of(layer.time) for layer in self.layers]
        self.give = [
            torch.cat([layer.time_to_vertical.weight, layer.time_to_horizontal.weight]).flatten(1)
            for layer in self.layers
        ]

    def fill(self, index: int, frames: Tensor) -> None:
        """What layer `index` took in `[b, t, h, w, c]`, up to now."""
        past = self.past[index]
        for place, frame in enumerate(reversed(frames.unbind(1)[-len(past) :] if past else ())):
            past[-1 - place] = frame.clone()  # the pass that made it goes on writing into it

    @torch.no_grad()
    def step(self, frame: Tensor, maps: Tensor | None) -> None:
        """Take in a frame `[b, h, w, c]`; `maps` `[layers, b, h|1, w|1, 2c]`."""
        given = []
        for index, layer in enumerate(self.layers):
            frames = [*self.past[index], frame]
            self.past[index] = frames[1:]
            side_by_side = torch.cat(frames, dim=-1).movedim(-1, 1)
            pre = F.conv2d(
                side_by_side, self.weights[index], self.biases[index], padding=layer.reach
            ).movedim(1, -1)
            given.append(F.linear(pre, self.give[index]))
            if index + 1 < len(self.layers):
                update = gate(pre, None if maps is None else maps[index], dim=-1)
                frame = update if layer.first else frame + update
        self.to_vertical, self.to_horizontal = torch.stack(given).chunk(2, dim=-1)


class Vertical:
    """V a row at a time.

    Attributes:
        above: what the rows seen give the next one `[layers, b, w, 2c]`.
    """

    def __init__(self, net: CausalNet, batch: int, width: int) -> None:
        self.layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        layers, like, c = self.layers, next(net.parameters()), net.width
        self.reaches = [layer.reach for layer in layers]
        self.width, self.scale = width, doubled_tanh(like, c)
        self.rows = [  # the last rows that a layer took in and room for one more, between zeros
            like.new_zeros(batch, reach + 1, width + 2 * reach, c) for reach in self.reaches
        ]
        self.above = like.new_zeros(len(layers), batch, width, 2 * c)
        self.pre = like.new_zeros(len(layers), batch, width, 2 * c)
        self.weights: list[Tensor] = []

    def _pack(self) -> None:
        """Lay out the weights, when they are first wanted: another may step in our place."""
        self.weights = [
            _flat(layer.vertical.weight * self.scale.view(-1, 1, 1, 1, 1)) for layer in self.layers
        ]
        self.biases = [bias_of(layer.vertical) * self.scale for layer in self.layers]
        give = torch.stack(
            [layer.vertical_to_horizontal.weight.flatten(1) for layer in self.layers]
        )
        self.give = (give / self.scale).transpose(1, 2)

    def forget(self) -> None:
        """Begin a new frame."""
        self.above.zero_()
        for rows in self.rows:
            rows.zero_()

    def fill(self, index: int, rows: Tensor) -> None:
        """What layer `index` took in `[b, h, w, c]`, up to now."""
        reach = self.reaches[index]
        recent = rows[:, -reach - 1 :]
        first = reach + 1 - recent.shape[1]
        self.rows[index][:, first:, reach : reach + self.width] = recent

    @torch.no_grad()
    def step(self, row: Tensor, past: Tensor | None, maps: Tensor | None) -> None:
        """Take in a row `[b, w, c]`; `past` `[layers, b, w, 2c]` is what T gives it, `maps`
        `[layers, b, w|1, 2c]`.
        """
        if not self.weights:
            self._pack()
        if past is not None:
            self.pre.copy_(past).mul_(self.scale)
        for index, (rows, reach, pre) in enumerate(
            zip(self.rows, self.reaches, self.pre, strict=True)
        ):
            rows[:, :-1] = rows[:, 1:] if reach == 1 else rows[:, 1:].clone()
            rows[:, -1, reach : reach + self.width] = row
            seen = F.conv2d(rows.movedim(-1, 1), self.weights[index], self.biases[index])
            seen = seen[:, :, 0].movedim(1, -1)
            if past is None:
                pre.copy_(seen)
            else:
                pre.add_(seen)
            if index + 1 < len(self.rows):  # nobody listens to the last
                told = pre if maps is None else pre.addcmul(maps[index], self.scale)
                a, b = told.sigmoid().chunk(2, dim=-1)
                negative = torch.addcmul(b, a, b, value=-2)
                row = -negative if index == 0 else row - negative
        torch.bmm(self.pre.flatten(1, 2), self.give, out=self.above.flatten(1, 2))


def doubled_tanh(like: Tensor, channels: int) -> Tensor:
    """Factors `[2c]` of what stands before a gate, whose result is then, with one sigmoid for
    both halves, -(b - 2 a b): see `vqvideo.nets.causal.gate`.
    """
    return like.new_tensor([2.0] * channels + [1.0] * channels)


def _flat(weight: Tensor) -> Tensor:
    """The weight `[o, ..., kh, kw]` of a convolution with one axis too many, as one in the plane,
    its input channels last in memory.
    """
    plane = weight.reshape(len(weight), -1, *weight.shape[-2:])
    return plane.contiguous(memory_format=torch.channels_last)


def bias_of(layer: nn.Conv3d) -> Tensor:
    """The bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias.detach()
