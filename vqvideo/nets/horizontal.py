"""H of the causal core in its step-by-step form, all layers together; see stacks.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.nets.causal import CausalLayer, CausalNet
from vqvideo.nets.stacks import bias_of, doubled_tanh

ENDLESS = 64  # positions that the history of an endless row has room for, at least


class Horizontal:
    """H a position at a time.

    Its history holds what every layer took in, `[layers, positions, b, c]`. What all layers add
    up from positions to the left comes from one batched product, since none of it depends on
    this position; then each layer is two products and a gate.

    Args:
        net: the network.
        batch: number of samples.
        width: positions in a row; 0 for a row without end.
    """

    def __init__(self, net: CausalNet, batch: int, width: int) -> None:
        layers: Sequence[CausalLayer] = net.layers  # type: ignore[assignment]
        like, c, number = next(net.parameters()), net.width, len(layers)
        self.channels, self.number = c, number
        self.endless = not width
        self.pad = max(layer.reach * layer.dilation for layer in layers)
        room = width or max(ENDLESS, self.pad)
        self.history = like.new_zeros(number, self.pad + room, batch, c)
        self.start = 0  # the position that stands after the pad
        self.scale = doubled_tanh(like, c)
        self.bias = torch.stack([bias_of(layer.horizontal) for layer in layers]) * self.scale
        kernels = [
            layer.horizontal.weight[:, :, 0, 0].permute(2, 1, 0) * self.scale for layer in layers
        ]  # [taps, c, 2c], the farthest to the left first
        self.dilations = [layer.dilation for layer in layers]
        self.first_reach = layers[0].reach
        self.first = kernels[0].flatten(0, 1)
        own = torch.stack([kernel[-1] for kernel in kernels])
        self.own = own[1:]  # the first layer does not see itself
        self.reach = reach = max((layer.reach for layer in layers[1:]), default=0)
        self.left = like.new_zeros(number - 1, reach, c, 2 * c)
        self.taps = torch.zeros(number - 1, reach, dtype=torch.int64, device=like.device)
        for index, (layer, kernel) in enumerate(zip(layers[1:], kernels[1:], strict=True)):
            self.left[index, reach - layer.reach :] = kernel[:-1]
            steps = torch.arange(reach, 0, -1, device=like.device).clamp(max=layer.reach)
            self.taps[index] = (index + 1) * self.history.shape[1] - steps * layer.dilation
        self.taps, self.left = self.taps.flatten(), self.left.flatten(1, 2)
        self.out = torch.stack(
            [
                torch.cat([-layer.out.weight.flatten(1).T, bias_of(layer.out)[None]])
                for layer in layers
            ]
        )
        self.pre = like.new_zeros(number, batch, 2 * c)
        self.total = like.new_zeros(batch, 2 * c)  # of residuals, and of skips
        self.kept = like.new_zeros(number - 1, batch, c)  # what later layers took in
        self.gated = like.new_ones(batch, c + 1)  # the last for the bias of `out`
        self._views()

    def _views(self) -> None:
        """Slices made once: a slice costs as much as a small product."""
        c = self.channels
        self.flat = self.history.flatten(0, 1)
        self.rows = self.history[1:].unbind(1)
        places = torch.arange(self.pad, self.history.shape[1], device=self.taps.device)
        self.seen = (places[:, None] + self.taps).unbind(0)  # from each place, among `flat`
        self.first_rows = self.history[0].unbind(0)
        self.stream, self.skips = self.total[:, :c], self.total[:, c:]
        self.first_pre, self.later_pre = self.pre[0], self.pre[1:]
        self.chain = [
            (pre, pre[:, :c], pre[:, c:], kept, own, out)
            for pre, kept, own, out in zip(
                self.later_pre, self.kept, self.own, self.out[1:], strict=True
            )
        ]
        self.gates = self.gated[:, :c]

    def forget(self) -> None:
        """Begin a new row."""
        self.history.zero_()

    def begin_row(self, added: Tensor | None, start: int = 0) -> None:
        """What is added besides what stands to the left: `[w|1, layers, b, 2c]`, where w columns
        begin at `start`.
        """
        bias = self.bias[:, None].expand(-1, self.pre.shape[1], -1)
        total = bias[None] if added is None else torch.addcmul(bias, added, self.scale)
        self.added = total.contiguous()
        self.each_added = self.added.unbind(0)
        self.added_from = start

    def fill(self, index: int, columns: Tensor) -> None:
        """What layer `index` took in `[b, w, c]` in this row, up to now."""
        recent = columns.transpose(0, 1)
        if self.endless:
            self.start = len(recent)
            recent = recent[-self.pad :]
            self.history[index, self.pad - len(recent) : self.pad] = recent
        else:
            self.history[index, self.pad : self.pad + len(recent)] = recent

    def row(self) -> Tensor:
        """The embeddings `[b, w, c]` of the row."""
        return self.history[0, self.pad :].transpose(0, 1).clone()

    def remember(self, embedding: Tensor, column: int) -> None:
        """Keep the embedding `[b, c]` at `column` for the positions to its right."""
        self.first_rows[self.place(column)].copy_(embedding)

    def step(self, column: int) -> Tensor:
        """Skip features `[b, c]` at `column`, the embeddings to its left remembered."""
        place = self.place(column)
        added = self.each_added[column - self.added_from if len(self.added) > 1 else 0]
        batch = added.shape[1]
        reach, dilation = self.first_reach, self.dilations[0]
        if reach == 1:
            window = self.first_rows[place - dilation]
        else:
            window = self.history[0, place - reach * dilation : place : dilation]
            window = window.transpose(0, 1).reshape(batch, -1)
        torch.addmm(added[0], window, self.first, out=self.first_pre)
        if self.number > 1:
            left = self.flat.index_select(0, self.seen[place - self.pad])
            if self.reach > 1:
                left = left.view(self.number - 1, -1, batch, self.channels)
                left = left.transpose(1, 2).reshape(self.number - 1, batch, -1)
            torch.baddbmm(added[1:], left, self.left, out=self.later_pre)
        gates, gated = self.gates, self.gated
        a, b = self.first_pre.sigmoid_().chunk(2, dim=-1)
        torch.addcmul(b, a, b, value=-2, out=gates)
        torch.mm(gated, self.out[0], out=self.total)
        total, stream = self.total, self.stream
        for pre, a, b, kept, own, out in self.chain:
            kept.copy_(stream)
            pre.addmm_(stream, own).sigmoid_()
            torch.addcmul(b, a, b, value=-2, out=gates)
            total.addmm_(gated, out)
        if self.number > 1:
            self.rows[place].copy_(self.kept)
        return self.skips

    def place(self, column: int) -> int:
        """Where a column stands in the history; an endless row moves on when it is full."""
        place = column - self.start + self.pad
        if place == self.history.shape[1]:
            self.history[:, : self.pad] = self.history[:, place - self.pad :].clone()
            self.start, place = column, self.pad
        return place
