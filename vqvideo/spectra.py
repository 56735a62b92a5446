"""Spectra of audio: STFT magnitudes, log mel spectrograms, and a distance between them.

Hearing depends on the strength in each frequency band, on a logarithmic scale, far more than on the
shape of the waveform.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_EPS = 1e-3  # added to magnitudes before the logarithm; smaller magnitudes count as silence
MAX_LOG_MEL = 3.0  # log mel value that a spectrogram renders as black
STFT_RESOLUTIONS = (  # window length in samples, number of mel bands
    (2048, 80),
    (1024, 80),
    (512, 60),
    (256, 40),
    (128, 20),
)


def stft_magnitude(x: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return the STFT magnitudes `[b, n_fft // 2 + 1, t // hop_length]` of audio `[b, t]`.

    Frame i is centred on the samples from i * hop_length to (i + 1) * hop_length; the audio is
    padded with zeros.
    """
    pad_left = (n_fft - hop_length) // 2
    frames = F.pad(x, (pad_left, n_fft - hop_length - pad_left)).unfold(1, n_fft, hop_length)
    spectrum: Tensor = torch.fft.rfft(frames * hann_window(n_fft, x), dim=-1)
    return spectrum.abs().transpose(1, 2)


def log_mel(x: Tensor, n_fft: int, hop_length: int, num_mel_bins: int, sample_rate: int) -> Tensor:
    """Return the log mel spectrogram `[b, num_mel_bins, t // hop_length]` of audio `[b, t]`.

    >>> tone = 0.5 * torch.sin(torch.arange(4000) * (2 * math.pi * 1000 / 16000))
    >>> bands = log_mel(tone[None], 512, 128, 40, 16000)
    >>> bands.shape, bands[0, :, 15].argmax().item()  # 1 kHz is 1,000 of 2,840 mels
    (torch.Size([1, 40, 31]), 13)
    """
    filters = mel_filterbank(n_fft, num_mel_bins, sample_rate).to(x)
    with torch.autocast(x.device.type, enabled=False):  # autocast would lower the precision
        return torch.log(filters @ stft_magnitude(x, n_fft, hop_length) + LOG_EPS)


def mel_distance(x: Tensor, y: Tensor, sample_rate: int) -> Tensor:
    """Return the multi-scale mel distance `[b]` between audio signals `[b, t]`.

    It is the mean absolute difference of log mel spectrograms, averaged over the resolutions of
    `STFT_RESOLUTIONS`. 1 means that bands differ by a factor of e (8.7 dB) on average.
    """
    total = x.new_zeros(len(x))
    for n_fft, num_mel_bins in STFT_RESOLUTIONS:
        hop_length = n_fft // 4
        padded = [F.pad(audio, (0, -audio.shape[1] % hop_length)) for audio in (x, y)]
        mel_x, mel_y = (log_mel(s, n_fft, hop_length, num_mel_bins, sample_rate) for s in padded)
        total = total + (mel_x - mel_y).abs().flatten(1).mean(dim=1)
    return total / len(STFT_RESOLUTIONS)


def render_spectrogram(x: Tensor, sample_rate: int) -> Tensor:
    """Render log mel spectrograms `[b, 3, 160, w]` in [-1, 1] of audio `[b, t]`.

    Time runs from left to right at 200 pixels per second, frequency from bottom to top; dark means
    strong.
    """
    hop_length = max(1, sample_rate // 100)
    bands = log_mel(
        F.pad(x, (0, -x.shape[1] % hop_length)), 4 * hop_length, hop_length, 80, sample_rate
    )
    darkness = (bands - math.log(LOG_EPS)) / (MAX_LOG_MEL - math.log(LOG_EPS))
    image = (1 - 2 * darkness.clamp(0, 1)).flip(1)
    upscaled = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return upscaled[:, None].expand(-1, 3, -1, -1)


def hann_window(window_length: int, like: Tensor) -> Tensor:
    """Return a Hann window; with a hop of a quarter of its length, windows add up to 2."""
    return torch.hann_window(window_length, dtype=like.dtype, device=like.device)


@functools.cache
@torch.inference_mode(False)  # a cached inference tensor could not be used in training
def mel_filterbank(n_fft: int, num_mel_bins: int, sample_rate: int) -> Tensor:
    """Return triangular filters `[num_mel_bins, n_fft // 2 + 1]`, evenly spaced on the mel scale
    from 0 to half the sample rate, each with sum 1.

    A filter narrower than the frequency spacing selects the frequency nearest to its centre.
    """
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    max_mel = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mels = torch.linspace(0, max_mel, num_mel_bins + 2, dtype=torch.float64)
    low, centre, high = (700 * (10 ** (mels / 2595) - 1)).unfold(0, num_mel_bins, 1)[:, :, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    nearest = F.one_hot((frequencies - centre).abs().argmin(dim=1), len(frequencies))
    triangles = torch.where(triangles.sum(dim=1, keepdim=True) > 0, triangles, nearest.double())
    return (triangles / triangles.sum(dim=1, keepdim=True)).float()
