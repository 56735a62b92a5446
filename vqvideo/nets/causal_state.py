"""The causal core one position at a time: T once a frame, V once a row, H once a code.

The state lives here and nowhere in the modules, so any number of samplers can share a network.
Each step costs H's few small products; all that does not change along a row (what comes from
above, from the past and from the condition, and H's bias) is summed once per row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.nets.causal import CausalLayer, CausalNet, gate


class CausalState:
    """Walks a grid in raster order.

    Args:
        net: the network; its weights are read, never changed.
        batch: number of samples.
        grid: `(t, h, w)`, axes that the rank lacks being 1.
        cond: as for `CausalNet.forward`.

    Call `features()` for the features of the next position if they are wanted, then `push()` its
    embedding.
    """

    def __init__(
        self, net: CausalNet, batch: int, grid: tuple[int, int, int], cond: Tensor | None
    ) -> None:
        self.frames, self.height, self.width = grid
        self.position = (0, 0, 0)
        like = next(net.parameters())
        self.input = like.new_zeros(batch, net.width, self.height, self.width)
        self.rank = net.rank
        self.layers = [
            _LayerState(layer, layer.cond_maps(cond), self.input)  # type: ignore[arg-type, operator]
            for layer in net.layers
        ]
        self.is_known = False  # whether H has run at this position
        self._begin_row()

    def features(self) -> Tensor:
        """Features `[b, c]` of the next position."""
        self.is_known = True
        column = self.position[2]
        x = self.input[:, :, self.position[1], 0]  # a placeholder: layer 0 never reads it
        total: Tensor | float = 0.0
        for layer in self.layers:
            x, skip = layer.horizontal(x, column)
            total = total + skip
        assert isinstance(total, Tensor)
        return total

    def push(self, embedding: Tensor) -> None:
        """Take the embedding `[b, c]` of the code at this position and go to the next."""
        if not self.is_known:
            self.features()  # positions to the right need what every layer saw here
        self.is_known = False
        frame, row, column = self.position
        self.input[:, :, row, column] = embedding
        self.layers[0].remember(embedding, column)
        if column + 1 < self.width:
            self.position = (frame, row, column + 1)
            return
        if row + 1 < self.height:
            self._run_vertical(row)
            self.position = (frame, row + 1, 0)
        else:
            self._finish_frame()
        self._begin_row()

    def push_frame(self, embeddings: Tensor) -> None:
        """Take a whole known frame `[b, c, h, w]` at once; only T needs to look at it."""
        _, row, column = self.position
        if row or column:
            raise ValueError(f"a whole frame fits only at its start, not at {self.position}")
        self.is_known = False
        self.input = embeddings.clone()
        self._finish_frame()
        self._begin_row()

    def _begin_row(self) -> None:
        frame, row, _ = self.position
        if frame < self.frames:
            for layer in self.layers:
                layer.begin_row(frame, row, self.width)

    def _run_vertical(self, row: int) -> None:
        x = self.input[:, :, row]
        for layer in self.layers:
            x = layer.vertical(x, self.position[0], row)

    def _finish_frame(self) -> None:
        frame = self.position[0]
        self.position = (frame + 1, 0, 0)
        if self.rank == 3 and frame + 1 < self.frames:
            x = self.input
            for layer in self.layers:
                x = layer.time(x, frame)
            self.input = torch.zeros_like(self.input)


class _LayerState:
    """What one layer must remember, and its three stacks on a frame, a row, a position."""

    def __init__(self, layer: CausalLayer, maps: list[Tensor | float], like: Tensor) -> None:
        batch, channels, height, width = like.shape
        self.layer, self.maps = layer, maps
        self.pad = layer.reach * layer.dilation
        self.left_weight = layer.horizontal.weight[:, :, 0, 0].permute(2, 1, 0).flatten(0, 1)
        assert layer.horizontal.bias is not None and layer.out.bias is not None
        self.left_bias = layer.horizontal.bias
        self.out_weight = layer.out.weight.flatten(1).T.contiguous()
        self.out_bias = layer.out.bias
        self.history = like.new_zeros(batch, self.pad + width, channels)
        if layer.rank >= 2:
            self.rows = like.new_zeros(batch, channels, layer.reach + 1, width)
        if layer.rank == 3:
            frames = layer.time.kernel_size[0]
            self.past = like.new_zeros(batch, channels, frames, height, width)
        self.from_above: Tensor | None = None
        self.time_to_vertical: Tensor | None = None
        self.time_to_horizontal: Tensor | None = None

    def time(self, x: Tensor, frame: int) -> Tensor:
        """T on the frame `x` `[b, c, h, w]` just completed; what it gives the next frame stays."""
        layer, r = self.layer, self.layer.reach
        self.past = torch.cat([self.past[:, :, 1:], x[:, :, None]], dim=2)
        pre = layer.time(F.pad(self.past, (r, r, r, r)))
        self.time_to_vertical = layer.time_to_vertical(pre)[:, :, 0]
        self.time_to_horizontal = layer.time_to_horizontal(pre)[:, :, 0]
        return layer.join(x, gate(pre + _at(self.maps[2], frame))[:, :, 0])

    def vertical(self, x: Tensor, frame: int, row: int) -> Tensor:
        """V on the row `x` `[b, c, w]` just completed; what it gives the next row stays."""
        layer, r = self.layer, self.layer.reach
        self.rows = torch.cat([self.rows[:, :, 1:], x[:, :, None]], dim=2)
        pre = layer.vertical(F.pad(self.rows, (r, r))[:, :, None])  # [b, 2c, 1, 1, w]
        if self.time_to_vertical is not None:
            pre = pre + self.time_to_vertical[:, :, None, row, None]
        self.from_above = layer.vertical_to_horizontal(pre)[:, :, 0, 0]
        return layer.join(x, gate(pre + _at(self.maps[1], frame, row))[:, :, 0, 0])

    def begin_row(self, frame: int, row: int, width: int) -> None:
        """Sum up `[w, b, 2c]`: all that H adds along this row besides what stands to the left."""
        self.history.zero_()
        if row == 0:
            self.from_above = None
            if self.layer.rank >= 2:
                self.rows.zero_()
        total = self.left_bias[None, :, None].expand(len(self.history), -1, width)
        if self.from_above is not None:
            total = total + self.from_above
        if self.time_to_horizontal is not None:
            total = total + self.time_to_horizontal[:, :, row]
        maps = _at(self.maps[0], frame, row)
        if isinstance(maps, Tensor):
            total = total + maps[:, :, 0, 0]
        self.row_bias = total.permute(2, 0, 1).contiguous()

    def remember(self, x: Tensor, column: int) -> None:
        """Keep this layer's input `[b, c]` at `column` for the positions to its right."""
        self.history[:, self.pad + column] = x

    def horizontal(self, x: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """H at `column`: its input `x` `[b, c]` to the next layer's input and skip features."""
        layer = self.layer
        if not layer.first:
            self.remember(x, column)
        last = column + layer.dilation * (layer.taps - 1) + 1
        window = self.history[:, column : last : layer.dilation].flatten(1)
        gated = gate(torch.addmm(self.row_bias[column], window, self.left_weight))
        residual, skip = torch.addmm(self.out_bias, gated, self.out_weight).chunk(2, dim=1)
        return layer.join(x, residual), skip


def _at(map_: Tensor | float, frame: int, row: int | None = None) -> Tensor | float:
    """The part of a conditioning map `[b, c, t|1, h|1, w|1]` for one frame, or one row of it."""
    if not isinstance(map_, Tensor):
        return map_
    map_ = map_[:, :, [frame if map_.shape[2] > 1 else 0]]
    return map_ if row is None else map_[:, :, :, [row if map_.shape[3] > 1 else 0]]
