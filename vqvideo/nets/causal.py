"""A causal convolutional network over a grid in raster order: each position depends on earlier
ones only.

Three stacks of gated convolutions; in every layer each feeds the next before its gate:

    T, time        features of past frames, shifted by one frame     rank 3
    V, vertical    features of the rows above, shifted by one row    rank 2 and 3
    H, horizontal  features of this row, strictly to the left        every rank

Rank 1 is H alone, with dilations (WaveNet); rank 2 is V and H (gated PixelCNN, without the blind
spot of masked kernels); rank 3 is all three. No weights are masked: kernels are cropped to the
visible positions and features are shifted by one step. Internally, tensors always have three axes
`[b, c, t, h, w]`; axes missing at a rank have size 1, so there is one code path.

`vqvideo.incremental` evaluates the same network step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Input elements per chunk of a pass without gradients. Memory of this size is reused by the
# allocator; allocating more would cost more time than the computation.
MAX_CHUNK_NUMEL = 2**18


class ReceptiveField(NamedTuple):
    """Extent of the earlier positions that the output at a position depends on.

    Attributes:
        frames: number of frames back.
        rows: number of rows up; in past frames, also rows - 1 down.
        columns: number of columns to either side, in past frames and rows above.
        left: number of columns to the left in the same row.
    """

    frames: int
    rows: int
    columns: int
    left: int

    def contains(self, offset: Sequence[int]) -> bool:
        """Return whether it contains `offset` (frame, row, column; negative is earlier)."""
        frame, row, column = (0,) * (3 - len(offset)) + tuple(offset)
        if frame:
            is_near = -self.frames <= frame < 0 and -self.rows <= row < self.rows
            return is_near and abs(column) <= self.columns
        if row:
            return -self.rows <= row < 0 and abs(column) <= self.columns
        return -self.left <= column < 0


class CausalLayer(nn.Module):
    """One layer of all stacks.

    Args:
        rank: 1, 2 or 3; H alone, V and H, or all three stacks.
        width: channels C of every stack.
        kernel_radius: r; the kernel of H covers r + 1 positions, that of V (r+1) x (2r+1), that of
            T time_kernel_size x (2r+1) x (2r+1).
        time_kernel_size: number of frames in the kernel of T.
        dilation: dilation of H; above 1 for rank 1 only.
        is_first: whether this is the first layer: H excludes its own position and there is no
            residual connection.
        cond_width: channels of the condition; 0 for none.
        dropout: dropout probability of the gated features.
    """

    def __init__(
        self,
        *,
        rank: int,
        width: int,
        kernel_radius: int,
        time_kernel_size: int,
        dilation: int,
        is_first: bool,
        cond_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rank, self.kernel_radius = rank, kernel_radius
        self.dilation, self.is_first = dilation, is_first
        taps, side = kernel_radius + (not is_first), 2 * kernel_radius + 1
        if rank == 3:
            self.time = nn.Conv3d(width, 2 * width, (time_kernel_size, side, side))
            self.time_to_vertical = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
            self.time_to_horizontal = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
        if rank >= 2:
            self.vertical = nn.Conv3d(width, 2 * width, (1, kernel_radius + 1, side))
            self.vertical_to_horizontal = nn.Conv3d(2 * width, 2 * width, 1, bias=False)
        self.horizontal = nn.Conv3d(width, 2 * width, (1, 1, taps), dilation=(1, 1, dilation))
        self.out = nn.Conv3d(width, 2 * width, 1)  # residual and skip halves
        biases = 2 * width * rank
        self.cond_proj = nn.Conv3d(cond_width, biases, 1, bias=False) if cond_width else None
        self.dropout = nn.Dropout(dropout)

    def project_cond(self, cond: Tensor | None) -> Sequence[Tensor | None]:
        """Project the condition `[b, e, t|1, h|1, w|1]` to biases before the gates of H, V, T."""
        if cond is None or self.cond_proj is None:
            return [None] * self.rank
        return self.cond_proj(cond).chunk(self.rank, dim=1)  # type: ignore[no-any-return]

    def forward(self, streams: list[Tensor], cond_biases: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the streams of the next layer.

        Without gradients the given streams are updated in place: on a CPU new memory costs more
        than the sum.

        Args:
            streams: one for each of H, V and T that exists at this rank, in this order. The H
                stream `[b, 2c, t, h, w]` holds the sum of the skip features in its second half;
                before the first layer it is only the input, `[b, c, t, h, w]`.
            cond_biases: one entry per stream; see `project_cond`.
        """
        r, out = self.kernel_radius, list(streams)
        left = streams[0].narrow(1, 0, self.horizontal.in_channels)
        left = F.pad(left, (r * self.dilation, 0))
        pre = self.horizontal(left[..., : -self.dilation] if self.is_first else left)
        if self.rank == 3:
            num_frames = self.time.kernel_size[0] - 1
            past = self.time(F.pad(streams[2], (r, r, r, r, num_frames, 0)))
            add_shifted(pre, self.time_to_horizontal(past), axis=2)
        if self.rank >= 2:
            above = self.vertical(F.pad(streams[1], (r, r, r, 0)))
            if self.rank == 3:
                add_shifted(above, self.time_to_vertical(past), axis=2)
                out[2] = self.add_residual(streams[2], gate(past, cond_biases[2]))
            add_shifted(pre, self.vertical_to_horizontal(above), axis=3)
            out[1] = self.add_residual(streams[1], gate(above, cond_biases[1]))
        out[0] = self.add_residual(streams[0], self.out(self.dropout(gate(pre, cond_biases[0]))))
        return out

    def add_residual(self, stream: Tensor, update: Tensor) -> Tensor:
        """Add the update to the stream; the first layer has no residual, as H drops its input."""
        if self.is_first:
            return update
        return stream + update if torch.is_grad_enabled() else stream.add_(update)


class CausalNet(nn.Module):
    """A sequence of `CausalLayer`: features of each position from earlier ones only.

    Args:
        rank: 1, 2 or 3.
        width: channels of the input, of every stack and of the output features.
        kernel_radii: kernel radius of each layer; see `CausalLayer`.
        dilations: dilation of H in each layer.
        time_kernel_size: number of frames in the kernels of T.
        cond_width: channels of the condition; 0 for none.
        dropout: dropout probability.
    """

    def __init__(
        self,
        *,
        rank: int,
        width: int,
        kernel_radii: Sequence[int],
        dilations: Sequence[int],
        time_kernel_size: int = 2,
        cond_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not kernel_radii or min(*kernel_radii, *dilations, time_kernel_size) < 1:
            raise ValueError(
                f"a causal network needs at least one layer, and kernel_radii, dilations and "
                f"time_kernel_size of at least 1, got {list(kernel_radii)}, {list(dilations)} and "
                f"{time_kernel_size}"
            )
        self.rank, self.width = rank, width
        self.layers = nn.ModuleList(
            CausalLayer(
                rank=rank,
                width=width,
                kernel_radius=r,
                time_kernel_size=time_kernel_size,
                dilation=dilation,
                is_first=index == 0,
                cond_width=cond_width,
                dropout=dropout,
            )
            for index, (r, dilation) in enumerate(zip(kernel_radii, dilations, strict=True))
        )
        left = sum(radius * step for radius, step in zip(kernel_radii, dilations, strict=True))
        self.receptive_field = ReceptiveField(
            frames=1 + len(kernel_radii) * (time_kernel_size - 1) if rank == 3 else 0,
            rows=1 + left if rank >= 2 else 0,
            columns=left if rank >= 2 else 0,
            left=left,
        )

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return features of `x`, both `[b, c, *grid]`; `cond` is `[b, e, t|1, h|1, w|1]`."""
        if torch.is_grad_enabled() or x.numel() <= MAX_CHUNK_NUMEL:
            return self._compute_features(x, cond)
        batch_size = max(1, MAX_CHUNK_NUMEL // x[0].numel())
        chunks = x.split(batch_size)
        conds = [None] * len(chunks) if cond is None else cond.split(batch_size)
        return torch.cat(list(map(self._compute_features, chunks, conds)))

    def _compute_features(self, x: Tensor, cond: Tensor | None) -> Tensor:
        for streams in self.iter_streams(x, cond):  # noqa: B007
            pass
        skips = streams[0].narrow(1, self.width, self.width)
        return skips.reshape(*skips.shape[:2], *x.shape[2:])

    def iter_streams(self, x: Tensor, cond: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Yield the input streams of each layer, then the output streams of the last one.

        See `CausalLayer.forward`: without gradients a layer modifies its input streams.
        """
        volume = to_volume(x, self.rank).contiguous(memory_format=torch.channels_last_3d)
        streams = [volume] * self.rank
        yield streams
        for layer in self.layers:
            streams = layer(streams, layer.project_cond(cond))  # type: ignore[operator]
            yield streams


def gate(x: Tensor, cond_bias: Tensor | None = None, dim: int = 1) -> Tensor:
    """Return tanh of the first half of the channels times sigmoid of the second.

    This is the gated unit of PixelCNN; `cond_bias` is added before it. tanh(a) is
    2 sigmoid(2 a) - 1, and on a CPU torch's sigmoid takes a fifth of the time of tanh.
    """
    a, b = (x if cond_bias is None else x + cond_bias).chunk(2, dim=dim)
    scale = b.sigmoid()
    return torch.lerp(-scale, scale, (2 * a).sigmoid())


def add_shifted(x: Tensor, update: Tensor, axis: int) -> None:
    """Add `update` to `x`, shifted by one step along an axis; its last step is dropped."""
    steps = x.shape[axis] - 1
    x.narrow(axis, 1, steps).add_(update.narrow(axis, 0, steps))


def to_volume(x: Tensor, rank: int) -> Tensor:
    """Reshape `[b, c, *grid]` to `[b, c, t, h, w]`; axes missing at this rank have size 1."""
    return x.reshape(*x.shape[:2], *(1,) * (3 - rank), *x.shape[2:])
