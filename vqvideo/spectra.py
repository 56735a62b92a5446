"""Spectra of sound: short-time magnitudes, mel bands, and how far two sounds are apart in them.

What an ear tells apart is how strong a sound is in each band of frequencies, on a logarithmic
scale, far more than the shape of its waveform.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-3  # added to magnitudes before the logarithm: what lies below counts as silence
LOUD = 3.0  # logarithm of a band that is drawn black
SCALES = ((2048, 80), (1024, 80), (512, 60), (256, 40), (128, 20))  # samples of a window, bands


def magnitudes(x: Tensor, window: int, hop: int) -> Tensor:
    """Short-time magnitudes `[b, window // 2 + 1, t // hop]` of sound `[b, t]`.

    Frame i is centred on the samples from i * hop to (i + 1) * hop; zeros stand around the sound.
    """
    before = (window - hop) // 2
    frames = F.pad(x, (before, window - hop - before)).unfold(1, window, hop)
    spectrum: Tensor = torch.fft.rfft(frames * hann(window, x), dim=-1)
    return spectrum.abs().transpose(1, 2)


def log_mel(x: Tensor, window: int, hop: int, num_bands: int, sample_rate: int) -> Tensor:
    """Logarithms of mel bands `[b, num_bands, t // hop]` of sound `[b, t]`.

    >>> tone = 0.5 * torch.sin(torch.arange(4000) * (2 * math.pi * 1000 / 16000))
    >>> bands = log_mel(tone[None], 512, 128, 40, 16000)
    >>> bands.shape, bands[0, :, 15].argmax().item()  # 1 kHz is 1,000 of 2,840 mels
    (torch.Size([1, 40, 31]), 13)
    """
    filters = mel_filters(window, num_bands, sample_rate).to(x)
    with torch.autocast(x.device.type, enabled=False):  # it would round the bands
        return torch.log(filters @ magnitudes(x, window, hop) + FLOOR)


def mel_distance(x: Tensor, y: Tensor, sample_rate: int) -> Tensor:
    """Multi-scale mel distance `[b]` of sounds `[b, t]`: the mean absolute difference of the
    logarithms of mel bands, over all bands, times and window lengths of `SCALES`.

    1 means that bands differ by a factor of e (8.7 dB) on average.
    """
    total = x.new_zeros(len(x))
    for window, num_bands in SCALES:
        hop = window // 4
        padded = [F.pad(sound, (0, -sound.shape[1] % hop)) for sound in (x, y)]
        ours, theirs = (log_mel(s, window, hop, num_bands, sample_rate) for s in padded)
        total = total + (ours - theirs).abs().flatten(1).mean(dim=1)
    return total / len(SCALES)


def spectrogram(x: Tensor, sample_rate: int) -> Tensor:
    """Pictures `[b, 3, 160, w]` in [-1, 1] of sounds `[b, t]`.

    Time runs from left to right, 200 pixels a second, mel bands from low at the bottom to high at
    the top; dark is strong.
    """
    hop = max(1, sample_rate // 100)
    bands = log_mel(F.pad(x, (0, -x.shape[1] % hop)), 4 * hop, hop, 80, sample_rate)
    darkness = (bands - math.log(FLOOR)) / (LOUD - math.log(FLOOR))
    picture = (1 - 2 * darkness.clamp(0, 1)).flip(1)
    large = picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return large[:, None].expand(-1, 3, -1, -1)


def hann(window: int, like: Tensor) -> Tensor:
    """A Hann window; windows a quarter of it apart add up to 2."""
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


@functools.cache
@torch.inference_mode(False)  # what is made in that mode, no later training step could use
def mel_filters(window: int, num_bands: int, sample_rate: int) -> Tensor:
    """Triangles `[num_bands, window // 2 + 1]`, evenly spaced on the mel scale from 0 to half the
    sample rate, each of weight 1.

    A band narrower than the spacing of the frequencies takes the one nearest to its centre.
    """
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mels = torch.linspace(0, highest, num_bands + 2, dtype=torch.float64)
    low, centre, high = (700 * (10 ** (mels / 2595) - 1)).unfold(0, num_bands, 1)[:, :, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    nearest = F.one_hot((frequencies - centre).abs().argmin(dim=1), len(frequencies))
    triangles = torch.where(triangles.sum(dim=1, keepdim=True) > 0, triangles, nearest.double())
    return (triangles / triangles.sum(dim=1, keepdim=True)).float()
