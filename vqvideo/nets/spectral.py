"""The encoder `mel` and the decoder `spectral`: sound by way of short-time spectra (rank 1).

A raw waveform goes in and comes out, but most of the work is done at the rate of the frames, a
hundred a second instead of 16,000, which is what makes these quick on a plain CPU. The encoder
sees how strong each band of frequencies is, not where its waves stand; the decoder gives each frame
a magnitude and a phase for every frequency, and overlapping frames are added up.

Frames are `hop` samples apart and four times as long; they take the place of the first levels of
strides, whose product `hop` must be. The other levels are strided convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import check_strides
from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder
from vqvideo.nets.conv import CONV, Layers, ResidualBlock, down_conv, pointwise, up_conv
from vqvideo.spectra import hann, log_mel

OVERLAP = 4  # frames that each sample lies in
LOUDEST = 5.0  # of the logarithms of magnitudes
LEVEL = -2.0  # of the same, where a network begins


@ENCODERS.register("mel")
class MelEncoder(Encoder):
    """Mel bands of short-time spectra, residual blocks, strided convolutions, residual blocks.

    Args:
        rank: 1; another raises `ValueError`.
        channels: 1, mono sound.
        z_channels: channels of z_e.
        strides: one tuple per level; the first ones, up to `hop`, are those of the frames.
        hop: samples from frame to frame; even.
        num_bands: mel bands.
        sample_rate: in Hz, where the bands lie.
        width: hidden channels.
        num_blocks: residual blocks, before and after each strided convolution.

    >>> encoder = MelEncoder(
    ...     rank=1, channels=1, z_channels=4, strides=((40,), (2,)), hop=40, width=8
    ... )
    >>> encoder(torch.zeros(2, 1, 240)).shape
    torch.Size([2, 4, 3])
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        hop: int = 160,
        num_bands: int = 80,
        sample_rate: int = 16000,
        width: int = 192,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        if channels != 1:
            raise ValueError(f"encoder 'mel' is for mono sound, 1 channel, not {channels}")
        levels = _levels_of_frames("encoder 'mel'", rank, strides, hop)
        self.rank, self.channels = rank, channels
        self.downsampling = (hop * math.prod(levels),)
        self.hop, self.num_bands, self.sample_rate = hop, num_bands, sample_rate
        layers: list[nn.Module] = [CONV[1](num_bands, width, 3, padding=1)]
        layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        for stride in levels:
            layers += [nn.ReLU(), down_conv(1, width, width, (stride,))]
            layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        layers += [nn.ReLU(), pointwise(1, width, z_channels)]
        self.layers = Layers(*layers)
        window = OVERLAP * hop
        as_conv = nn.Conv1d(1, 1, window, hop, padding=(window - hop) // 2, device="meta")
        self.cut_as(nn.ModuleList([as_conv, self.layers]), self.downsampling, causal=False)

    def extra_repr(self) -> str:
        return f"hop={self.hop}, num_bands={self.num_bands}, sample_rate={self.sample_rate}"

    def forward(self, x: Tensor) -> Tensor:
        window = OVERLAP * self.hop
        bands = log_mel(_wide(x[:, 0]), window, self.hop, self.num_bands, self.sample_rate)
        about_0_and_1_wide = (bands + 3) / 2
        return self.layers(about_0_and_1_wide.to(x.dtype))  # type: ignore[no-any-return]


@DECODERS.register("spectral")
class SpectralDecoder(Decoder):
    """Residual blocks, transposed convolutions, and frames that are added up.

    What comes out is a waveform, to be scored by a likelihood with one parameter per sample, such
    as `mel`.

    Args: as `MelEncoder`; `strides` are those of the encoder, walked backwards.

    Raises:
        ValueError: the likelihood asks for more than one parameter per sample.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        hop: int = 160,
        width: int = 192,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        levels = _levels_of_frames("decoder 'spectral'", rank, strides, hop)
        if channels != 1:
            raise ValueError(
                f"decoder 'spectral' gives a waveform, one parameter per sample, and this "
                f"likelihood takes {channels}; take the likelihood 'mel' or 'gaussian', or the "
                f"decoder 'conv'"
            )
        self.hop, self.window = hop, OVERLAP * hop
        layers: list[nn.Module] = [pointwise(1, z_channels, width)]
        layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        for stride in levels[::-1]:
            layers += [nn.ReLU(), up_conv(1, width, width, (stride,))]
            layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        layers += [nn.ReLU(), pointwise(1, width, 2 * (self.window // 2 + 1))]
        self.layers = Layers(*layers)
        padding = (self.window - hop) // 2
        as_conv = nn.ConvTranspose1d(1, 1, self.window, hop, padding=padding, device="meta")
        down = (hop * math.prod(levels),)
        self.cut_as(nn.ModuleList([self.layers, as_conv]), down, causal=False)

    def extra_repr(self) -> str:
        return f"hop={self.hop}"

    def forward(self, z_q: Tensor) -> Tensor:
        level, phase = _wide(self.layers(z_q)).chunk(2, dim=1)
        magnitude = (2 * level + LEVEL).clamp(max=LOUDEST).exp()
        spectrum = torch.polar(magnitude, phase)
        frames = torch.fft.irfft(spectrum, dim=1) * hann(self.window, phase)[:, None] / 2
        length = level.shape[2] * self.hop
        size = (1, length + self.window - self.hop)
        sound = F.fold(frames, size, (1, self.window), stride=(1, self.hop))[:, 0]
        return sound.narrow(2, (self.window - self.hop) // 2, length)


def _levels_of_frames(
    name: str, rank: int, strides: Sequence[Sequence[int]], hop: int
) -> list[int]:
    """The strides of the levels that `hop` leaves."""
    if rank != 1:
        raise ValueError(f"{name} is for sound (rank 1), not for rank {rank}")
    levels = [level[0] for level in check_strides(rank, strides)]
    products = [math.prod(levels[: number + 1]) for number in range(len(levels))]
    if hop not in products or hop % 2:
        raise ValueError(
            f"{name} needs an even hop that its first strides multiply to; with the strides "
            f"{levels} they come to {', '.join(map(str, products))}, got hop={hop}"
        )
    return levels[products.index(hop) + 1 :]


def _wide(x: Tensor) -> Tensor:
    """Transforms know no half precision."""
    return x if x.dtype == torch.float64 else x.float()
