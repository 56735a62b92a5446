"""The causal core: a network over a raster of positions in which each sees only earlier ones.

Three stacks of gated convolutions, each feeding the next before its gate in every layer:

    T, time        features of past frames, moved one frame on      rank 3
    V, vertical    features of the rows above, moved one row on     rank 2 and 3
    H, horizontal  this row, strictly to the left                   every rank

Rank 1 is H alone, with dilations (WaveNet); rank 2 is V and H (gated PixelCNN, without the blind
spot of a masked kernel); rank 3 is all three. No weight is ever masked: kernels are cropped to
what may be seen and features are moved by one step. Inside, positions always have three axes
`[b, c, t, h, w]`, those a rank lacks being 1, so there is one code path.

Step-by-step evaluation of the same network is causal_state.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AT_ONCE = 2**18  # numbers of the input that a pass without gradients works on at once: fresh memory
# costs more than the work on it, and as much as this is handed out again and again


class ReceptiveField(NamedTuple):
    """Which earlier positions can change the output at a position.

    Attributes:
        frames: how many frames back.
        rows: how many rows up; in past frames, also rows - 1 down.
        columns: how many columns to either side, in past frames and rows above.
        left: how many columns to the left in the same row.
    """

    frames: int
    rows: int
    columns: int
    left: int

    def contains(self, offset: Sequence[int]) -> bool:
        """Whether the position at `offset` (frame, row, column; negative is earlier) is seen."""
        frame, row, column = (0,) * (3 - len(offset)) + tuple(offset)
        if frame:
            return (
                -self.frames <= frame < 0
                and -self.rows <= row < self.rows
                and abs(column) <= self.columns
            )
        if row:
            return -self.rows <= row < 0 and abs(column) <= self.columns
        return -self.left <= column < 0


class CausalLayer(nn.Module):
    """One layer of all stacks.

    Args:
        rank: 1, 2 or 3: which stacks there are.
        width: channels C of every stack.
        reach: r, how far the layer looks to each side; H sees r + 1 positions, V (r+1) x (2r+1),
            T time_kernel x (2r+1) x (2r+1).
        time_kernel: frames that T sees.
        dilation: step between the positions that H sees; above 1 for rank 1 only.
        first: H must not see its own position, and there is nothing yet to add to.
        cond_width: channels of the conditioning maps; 0 for none.
        dropout: share of gated features dropped in training.
    """

    def __init__(
        self,
        *,
        rank: int,
        width: int,
        reach: int,
        time_kernel: int,
        dilation: int,
        first: bool,
        cond_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rank, self.reach, self.dilation, self.first = rank, reach, dilation, first
        self.taps = reach if first else reach + 1
        side = 2 * reach + 1
        if rank == 3:
            self.time = nn.Conv3d(width, 2 * width, (time_kernel, side, side))
            self.time_to_vertical = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
            self.time_to_horizontal = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
        if rank >= 2:
            self.vertical = nn.Conv3d(width, 2 * width, (1, reach + 1, side))
            self.vertical_to_horizontal = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
        self.horizontal = nn.Conv3d(width, 2 * width, (1, 1, self.taps), dilation=(1, 1, dilation))
        self.out = nn.Conv3d(width, 2 * width, 1)  # residual and skip halves
        self.cond = nn.Conv3d(cond_width, 2 * width * rank, 1, bias=False) if cond_width else None
        self.dropout = nn.Dropout(dropout)

    def cond_maps(self, cond: Tensor | None) -> Sequence[Tensor | None]:
        """What the condition `[b, e, t|1, h|1, w|1]` adds before the gates of H, V and T."""
        if cond is None or self.cond is None:
            return [None] * self.rank
        return self.cond(cond).chunk(self.rank, dim=1)  # type: ignore[no-any-return]

    def forward(self, streams: list[Tensor], maps: Sequence[Tensor | None]) -> list[Tensor]:
        """`streams` and `maps` hold one entry for H, V, T as far as the rank has them. The H
        stream `[b, 2c, t, h, w]` carries the sum of the skip features along in its second half;
        before the first layer it is the input alone, `[b, c, t, h, w]`.

        Returns the next layer's streams. Without gradients they are those given, added to in
        place: on a CPU new memory costs more than the sum.
        """
        r, out = self.reach, list(streams)
        left = streams[0].narrow(1, 0, self.horizontal.in_channels)
        left = F.pad(left, (r * self.dilation, 0))
        pre = self.horizontal(left[..., : -self.dilation] if self.first else left)
        if self.rank == 3:
            frames = self.time.kernel_size[0] - 1
            past = self.time(F.pad(streams[2], (r, r, r, r, frames, 0)))
            add_one_later(pre, self.time_to_horizontal(past), axis=2)
        if self.rank >= 2:
            above = self.vertical(F.pad(streams[1], (r, r, r, 0)))
            if self.rank == 3:
                add_one_later(above, self.time_to_vertical(past), axis=2)
                out[2] = self.join(streams[2], gate(past, maps[2]))
            add_one_later(pre, self.vertical_to_horizontal(above), axis=3)
            out[1] = self.join(streams[1], gate(above, maps[1]))
        out[0] = self.join(streams[0], self.out(self.dropout(gate(pre, maps[0]))))
        return out

    def join(self, stream: Tensor, update: Tensor) -> Tensor:
        """Residual sum; the first layer starts the stream, since H may not keep its input."""
        if self.first:
            return update
        return stream + update if torch.is_grad_enabled() else stream.add_(update)


class CausalNet(nn.Module):
    """A stack of `CausalLayer`: features of each position from strictly earlier ones.

    Args:
        rank: 1, 2 or 3.
        width: channels of the input, of every stack and of the features returned.
        reaches: one per layer; see `CausalLayer`.
        dilations: one per layer, of H.
        time_kernel: frames that T sees per layer.
        cond_width: channels of the condition; 0 for none.
        dropout: in training.
    """

    def __init__(
        self,
        *,
        rank: int,
        width: int,
        reaches: Sequence[int],
        dilations: Sequence[int],
        time_kernel: int = 2,
        cond_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not reaches or min(*reaches, *dilations, time_kernel) < 1:
            raise ValueError(
                f"a causal core needs at least one layer, and reaches, dilations and time_kernel "
                f"of at least 1, got {list(reaches)}, {list(dilations)} and {time_kernel}"
            )
        self.rank, self.width = rank, width
        self.layers = nn.ModuleList(
            CausalLayer(
                rank=rank,
                width=width,
                reach=reach,
                time_kernel=time_kernel,
                dilation=dilation,
                first=index == 0,
                cond_width=cond_width,
                dropout=dropout,
            )
            for index, (reach, dilation) in enumerate(zip(reaches, dilations, strict=True))
        )
        left = sum(reach * step for reach, step in zip(reaches, dilations, strict=True))
        self.receptive_field = ReceptiveField(
            frames=1 + len(reaches) * (time_kernel - 1) if rank == 3 else 0,
            rows=1 + left if rank >= 2 else 0,
            columns=left if rank >= 2 else 0,
            left=left,
        )

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Features `[b, c, *grid]` of `x` `[b, c, *grid]`; `cond` `[b, e, t|1, h|1, w|1]`."""
        if torch.is_grad_enabled() or x.numel() <= AT_ONCE:
            return self._features(x, cond)
        items = max(1, AT_ONCE // x[0].numel())
        parts = x.split(items)
        conds = [None] * len(parts) if cond is None else cond.split(items)
        return torch.cat([self._features(*pair) for pair in zip(parts, conds, strict=True)])

    def _features(self, x: Tensor, cond: Tensor | None) -> Tensor:
        for streams in self.streams(x, cond):  # noqa: B007
            pass
        skips = streams[0].narrow(1, self.width, self.width)
        return skips.reshape(*skips.shape[:2], *x.shape[2:])

    def streams(self, x: Tensor, cond: Tensor | None = None) -> Iterator[list[Tensor]]:
        """What goes into each layer, and at last what leaves the last one; see `CausalLayer`. A
        layer writes into what it was given.
        """
        volume = as_volume(x, self.rank).contiguous(memory_format=torch.channels_last_3d)
        streams = [volume] * self.rank
        yield streams
        for layer in self.layers:
            streams = layer(streams, layer.cond_maps(cond))  # type: ignore[operator]
            yield streams


def gate(x: Tensor, map_: Tensor | None = None, dim: int = 1) -> Tensor:
    """Tanh of one half of the channels times sigmoid of the other (PixelCNN's gated unit), once
    `map_` is added.

    tanh(a) is 2 sigmoid(2 a) - 1, and on a CPU torch's sigmoid takes a fifth of its tanh's time.
    """
    a, b = (x if map_ is None else x + map_).chunk(2, dim=dim)
    most = b.sigmoid()
    return torch.lerp(-most, most, (2 * a).sigmoid())


def add_one_later(x: Tensor, update: Tensor, axis: int) -> None:
    """Add `update` to `x`, moved one step on along an axis: its last step leaves."""
    steps = x.shape[axis] - 1
    x.narrow(axis, 1, steps).add_(update.narrow(axis, 0, steps))


def as_volume(x: Tensor, rank: int) -> Tensor:
    """`[b, c, *grid]` as `[b, c, t, h, w]`, the axes a rank lacks being 1."""
    return x.reshape(*x.shape[:2], *(1,) * (3 - rank), *x.shape[2:])
