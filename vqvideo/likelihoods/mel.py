"""The `mel` likelihood: how far the mel bands of two sounds are apart."""

from __future__ import annotations

from torch import Tensor

from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood, widened
from vqvideo.spectra import mel_distance


@LIKELIHOODS.register("mel")
class MelLikelihood(Likelihood):
    """Minus the multi-scale mel distance, once for each sample: it hears, and sees no waveform.

    Two waves that differ in phase alone sound alike, and a model that must get the phase of every
    wave right has no codes left for what is said. So nothing is asked of the phase, and nothing
    else is promised: what it gives is no log-probability, not even that of a density, and it has
    no samples.

    Args:
        rank: 1; another raises `ValueError`.
        sample_rate: in Hz, where the bands lie.

    >>> import torch
    >>> likelihood = MelLikelihood(rank=1)
    >>> sound = 0.1 * torch.randn(1, 1, 4000)
    >>> likelihood.log_prob(sound, sound).item(), likelihood.log_prob(sound, -sound).item()
    (-0.0, -0.0)
    """

    num_values = None
    is_normalized = False

    def __init__(self, *, rank: int, sample_rate: int = 16000) -> None:
        super().__init__()
        if rank != 1:
            raise ValueError(f"likelihood 'mel' is for sound (rank 1), not for rank {rank}")
        self.sample_rate = sample_rate

    def num_parameters(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        ours, theirs = (widened(sound).flatten(0, 1) for sound in (parameters, x))
        distance = mel_distance(ours, theirs, self.sample_rate).view(len(x), -1)
        return -distance.mean(dim=1) * x[0].numel()

    def mode(self, parameters: Tensor) -> Tensor:
        return widened(parameters).clamp(-1, 1)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        raise ValueError(
            "the likelihood 'mel' is no distribution, so there is nothing to draw from; its mode "
            "(temperature 0) is all it has"
        )
