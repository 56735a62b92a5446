"""The encoder `mel` and the decoder `spectral`: audio via short-time spectra (rank 1).

Input and output are raw waveforms, but most of the computation runs at the frame rate, 100 Hz
instead of 16 kHz, which makes these networks fast on a CPU. The encoder uses the log magnitudes of
mel bands and no phases; the decoder predicts the magnitude and phase of every frequency of each
frame, followed by an inverse STFT with overlap-add.

Frames are `hop_length` samples apart and four times as long. They replace the first levels of
strides, whose product must be `hop_length`. The other levels are strided convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.grid import check_strides
from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder
from vqvideo.nets.conv import (
    CONV,
    ResidualBlock,
    build_downsample_conv,
    build_pointwise_conv,
    build_upsample_conv,
)
from vqvideo.spectra import hann_window, log_mel
from vqvideo.streaming import CausalSequential

OVERLAP_FACTOR = 4  # number of frames that cover each sample
MAX_LOG_MAGNITUDE = 5.0  # largest log magnitude
INIT_LOG_MAGNITUDE = -2.0  # log magnitude at initialization


@ENCODERS.register("mel")
class MelEncoder(Encoder):
    """Log-mel spectrogram, then residual blocks and strided convolutions.

    Args:
        rank: must be 1.
        channels: must be 1 (mono).
        z_channels: channels of z_e.
        strides: one tuple per level; the product of the first ones must be `hop_length`, and the
            others are the strides of convolutions.
        hop_length: hop between frames in samples; even.
        num_mel_bins: number of mel bands.
        sample_rate: sample rate in Hz; determines the mel bands.
        width: hidden channels.
        num_blocks: number of residual blocks before the first and after each strided convolution.

    Raises:
        ValueError: `rank` or `channels` is not 1, or `hop_length` does not match the strides.

    >>> encoder = MelEncoder(
    ...     rank=1, channels=1, z_channels=4, strides=((40,), (2,)), hop_length=40, width=8
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
        hop_length: int = 160,
        num_mel_bins: int = 80,
        sample_rate: int = 16000,
        width: int = 192,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        if channels != 1:
            raise ValueError(f"encoder 'mel' is for mono audio, 1 channel, not {channels}")
        levels = _get_remaining_strides("encoder 'mel'", rank, strides, hop_length)
        self.rank, self.channels = rank, channels
        self.downsampling = (hop_length * math.prod(levels),)
        self.hop_length, self.num_mel_bins, self.sample_rate = hop_length, num_mel_bins, sample_rate
        layers: list[nn.Module] = [CONV[1](num_mel_bins, width, 3, padding=1)]
        layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        for stride in levels:
            layers += [nn.ReLU(), build_downsample_conv(1, width, width, (stride,))]
            layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        layers += [nn.ReLU(), build_pointwise_conv(1, width, z_channels)]
        self.layers = CausalSequential(*layers)
        win_length = OVERLAP_FACTOR * hop_length
        # A convolution with the context of the STFT, for `configure_chunks`.
        stft_conv = nn.Conv1d(
            1, 1, win_length, hop_length, padding=(win_length - hop_length) // 2, device="meta"
        )
        self.configure_chunks(
            nn.ModuleList([stft_conv, self.layers]), self.downsampling, causal=False
        )

    def extra_repr(self) -> str:
        return (
            f"hop_length={self.hop_length}, num_mel_bins={self.num_mel_bins}, "
            f"sample_rate={self.sample_rate}"
        )

    def forward(self, x: Tensor) -> Tensor:
        win_length = OVERLAP_FACTOR * self.hop_length
        bands = log_mel(
            _upcast(x[:, 0]), win_length, self.hop_length, self.num_mel_bins, self.sample_rate
        )
        normalized = (bands + 3) / 2  # roughly zero mean and unit variance
        return self.layers(normalized.to(x.dtype))  # type: ignore[no-any-return]


@DECODERS.register("spectral")
class SpectralDecoder(Decoder):
    """Residual blocks and transposed convolutions, then an inverse STFT.

    The output is a waveform for a likelihood with one parameter per sample, such as `mel`.

    Args: the same as for `MelEncoder`; the encoder's `strides` are applied in reverse order.

    Raises:
        ValueError: the likelihood needs more than one parameter per sample.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        hop_length: int = 160,
        width: int = 192,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        levels = _get_remaining_strides("decoder 'spectral'", rank, strides, hop_length)
        if channels != 1:
            raise ValueError(
                f"decoder 'spectral' outputs a waveform, one parameter per sample, but this "
                f"likelihood needs {channels}; choose the likelihood 'mel' or 'gaussian', or the "
                f"decoder 'conv'"
            )
        self.hop_length, self.win_length = hop_length, OVERLAP_FACTOR * hop_length
        layers: list[nn.Module] = [build_pointwise_conv(1, z_channels, width)]
        layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        for stride in levels[::-1]:
            layers += [nn.ReLU(), build_upsample_conv(1, width, width, (stride,))]
            layers += [ResidualBlock(1, width) for _ in range(num_blocks)]
        layers += [nn.ReLU(), build_pointwise_conv(1, width, 2 * (self.win_length // 2 + 1))]
        self.layers = CausalSequential(*layers)
        padding = (self.win_length - hop_length) // 2
        # A convolution with the context of the inverse STFT, for `configure_chunks`.
        istft_conv = nn.ConvTranspose1d(
            1, 1, self.win_length, hop_length, padding=padding, device="meta"
        )
        down = (hop_length * math.prod(levels),)
        self.configure_chunks(nn.ModuleList([self.layers, istft_conv]), down, causal=False)

    def extra_repr(self) -> str:
        return f"hop_length={self.hop_length}"

    def forward(self, z_q: Tensor) -> Tensor:
        log_magnitude, phase = _upcast(self.layers(z_q)).chunk(2, dim=1)
        magnitude = (2 * log_magnitude + INIT_LOG_MAGNITUDE).clamp(max=MAX_LOG_MAGNITUDE).exp()
        spectrum = torch.polar(magnitude, phase)
        frames = torch.fft.irfft(spectrum, dim=1) * hann_window(self.win_length, phase)[:, None] / 2
        length = log_magnitude.shape[2] * self.hop_length
        size = (1, length + self.win_length - self.hop_length)
        waveform = F.fold(frames, size, (1, self.win_length), stride=(1, self.hop_length))[:, 0]
        return waveform.narrow(2, (self.win_length - self.hop_length) // 2, length)


def _get_remaining_strides(
    name: str, rank: int, strides: Sequence[Sequence[int]], hop_length: int
) -> list[int]:
    """Return the strides of the levels that `hop_length` does not replace."""
    if rank != 1:
        raise ValueError(f"{name} is for audio (rank 1), not for rank {rank}")
    levels = [level[0] for level in check_strides(rank, strides)]
    products = [math.prod(levels[: index + 1]) for index in range(len(levels))]
    if hop_length not in products or hop_length % 2:
        raise ValueError(
            f"{name} needs an even hop_length that is a product of its first strides; for the "
            f"strides {levels} these are {', '.join(map(str, products))}, got "
            f"hop_length={hop_length}"
        )
    return levels[products.index(hop_length) + 1 :]


def _upcast(x: Tensor) -> Tensor:
    """Convert half precision to float32, since FFTs do not support it."""
    return x if x.dtype == torch.float64 else x.float()
