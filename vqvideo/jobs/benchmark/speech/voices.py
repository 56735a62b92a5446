"""Who speaks: a classifier of voices, learnt from recordings, that is to judge decoded ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.spectra import log_mel

HOPS_A_SECOND = 62.5  # a window is four hops, 64 ms: long enough to tell harmonics apart
NUM_BANDS = 80
LEVEL = 0.1  # root mean square that every sound is brought to, so that loudness tells nobody
QUIETEST = 1e-4  # root mean square below which a sound stays as quiet as it is
SHRINKAGE = 0.05  # of the covariance towards a sphere: a dozen utterances a speaker are few


def voice_print(sound: Tensor, sample_rate: int) -> Tensor:
    """What of a sound `[1, t]` tells who speaks: float64 `[160]`.

    The mean and the standard deviation of each of 80 logarithmic mel bands, over the louder half
    of the windows. The other half is pauses, by whose noise a room is told and not a voice.
    """
    hop = max(1, round(sample_rate / HOPS_A_SECOND))
    level = sound.square().mean().sqrt().clamp(min=QUIETEST)
    padded = F.pad(sound * (LEVEL / level), (0, -sound.shape[1] % hop))
    bands = log_mel(padded, 4 * hop, hop, NUM_BANDS, sample_rate)[0].double()
    loudness = bands.mean(dim=0)
    loud = bands[:, loudness >= loudness.median()]
    return torch.cat([loud.mean(dim=1), loud.std(dim=1, correction=0)])


class Voices:
    """Linear discriminant analysis (Fisher 1936): each speaker's voice prints are normal around a
    mean of their own, with a covariance that all share, and all speakers are as likely.

    It has a solution in closed form, so it takes seconds and no seed; where there are a dozen
    utterances of each speaker it tells voices better than a regression that is fitted to them.

    Args:
        prints: `[n, d]` of `voice_print`.
        speakers: n names, who speaks in each.

    Attributes:
        names: of the S speakers, sorted.

    >>> voices = Voices(torch.tensor([[0.0], [0.2], [1.0], [1.2]]), ["ann", "ann", "bob", "bob"])
    >>> voices.names[int(voices.log_probs(torch.tensor([[0.9]])).argmax())]
    'bob'
    """

    def __init__(self, prints: Tensor, speakers: Sequence[str]) -> None:
        self.names = sorted(set(speakers))
        number = torch.tensor([self.names.index(name) for name in speakers])
        self._centre = prints.double().mean(dim=0)
        self._scale = prints.double().std(dim=0, correction=0).clamp(min=1e-6)
        x = self._scaled(prints)
        means = torch.stack([x[number == k].mean(dim=0) for k in range(len(self.names))])
        within = x - means[number]
        covariance = within.T @ within / max(1, len(x) - len(means))
        sphere = torch.eye(x.shape[1], dtype=x.dtype) * covariance.diagonal().mean().clamp(min=1e-6)
        shrunk = torch.lerp(covariance, sphere, SHRINKAGE)
        self._weight = torch.linalg.solve(shrunk, means.T)
        self._bias = -0.5 * (means.T * self._weight).sum(dim=0)

    def log_probs(self, prints: Tensor) -> Tensor:
        """Log-probabilities float64 `[n, S]` of the speakers in the order of `names`, for voice
        prints `[n, d]`.
        """
        scores: Tensor = self._scaled(prints) @ self._weight + self._bias
        return scores.log_softmax(dim=1)

    def _scaled(self, prints: Tensor) -> Tensor:
        return (prints.double() - self._centre) / self._scale
