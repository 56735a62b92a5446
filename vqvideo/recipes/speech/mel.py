"""The `mel` likelihood: the mel-spectrogram distance of two waveforms."""

from __future__ import annotations

from torch import Tensor

from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood, upcast
from vqvideo.spectra import mel_distance


@LIKELIHOODS.register("mel")
class MelLikelihood(Likelihood):
    """Negative multi-scale mel-spectrogram distance, times the number of samples.

    Waveforms that differ only in phase sound alike, and a model that must reconstruct the phase
    spends its codes on it rather than on speech content. The distance ignores the phase. It is not
    a log-probability or a log-density, and it has no samples.

    Args:
        rank: 1; any other rank raises `ValueError`.
        sample_rate: sample rate in Hz, which determines the mel bands.

    >>> import torch
    >>> likelihood = MelLikelihood(rank=1)
    >>> audio = 0.1 * torch.randn(1, 1, 4000)
    >>> likelihood.log_prob(audio, audio).item(), likelihood.log_prob(audio, -audio).item()
    (-0.0, -0.0)
    """

    num_values = None
    is_normalized = False

    def __init__(self, *, rank: int, sample_rate: int = 16000) -> None:
        super().__init__()
        if rank != 1:
            raise ValueError(f"likelihood 'mel' requires audio (rank 1), got rank {rank}")
        self.sample_rate = sample_rate

    def num_parameters(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        output, target = (upcast(audio).flatten(0, 1) for audio in (parameters, x))
        distance = mel_distance(output, target, self.sample_rate).view(len(x), -1)
        return -distance.mean(dim=1) * x[0].numel()

    def mode(self, parameters: Tensor) -> Tensor:
        return upcast(parameters).clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        raise ValueError(
            "likelihood 'mel' is not a distribution, so it cannot be sampled; use its mode "
            "(temperature 0)"
        )
