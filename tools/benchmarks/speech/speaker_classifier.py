"""A speaker classifier, trained on recordings to evaluate decoded speech."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.spectra import log_mel

HOPS_PER_SECOND = 62.5  # a window has four hops, 64 ms: long enough to resolve harmonics
NUM_MELS = 80
TARGET_RMS = 0.1  # all audio is normalized to it, so that loudness identifies no speaker
MIN_RMS = 1e-4  # audio below it is not amplified further
SHRINKAGE = 0.05  # of the covariance towards a sphere, since there are few utterances per speaker


def compute_speaker_embedding(audio: Tensor, sample_rate: int) -> Tensor:
    """Return a speaker embedding of audio `[1, t]`: float64 `[160]`.

    It consists of the mean and standard deviation of 80 logarithmic mel bands over the louder half
    of the windows. The other half is mostly pauses, whose noise identifies the room instead.
    """
    hop_length = max(1, round(sample_rate / HOPS_PER_SECOND))
    level = audio.square().mean().sqrt().clamp(min=MIN_RMS)
    padded = F.pad(audio * (TARGET_RMS / level), (0, -audio.shape[1] % hop_length))
    bands = log_mel(padded, 4 * hop_length, hop_length, NUM_MELS, sample_rate)[0].double()
    loudness = bands.mean(dim=0)
    loud = bands[:, loudness >= loudness.median()]
    return torch.cat([loud.mean(dim=1), loud.std(dim=1, correction=0)])


class SpeakerClassifier:
    """A speaker classifier by linear discriminant analysis (Fisher 1936): the embeddings of each
    speaker are normally distributed with a shared covariance, and all speakers are equally likely.

    The closed-form solution takes seconds and needs no seed. With about a dozen utterances per
    speaker it is more accurate than a fitted regression.

    Args:
        embeddings: `[n, d]` from `compute_speaker_embedding`.
        speakers: the speaker name of each embedding.

    Attributes:
        speaker_names: sorted names of the S speakers.

    >>> embeddings = torch.tensor([[0.0], [0.2], [1.0], [1.2]])
    >>> classifier = SpeakerClassifier(embeddings, ["ann", "ann", "bob", "bob"])
    >>> log_probs = classifier.predict_log_probs(torch.tensor([[0.9]]))
    >>> classifier.speaker_names[int(log_probs.argmax())]
    'bob'
    """

    def __init__(self, embeddings: Tensor, speakers: Sequence[str]) -> None:
        self.speaker_names = sorted(set(speakers))
        speaker_ids = torch.tensor([self.speaker_names.index(name) for name in speakers])
        self._mean = embeddings.double().mean(dim=0)
        self._std = embeddings.double().std(dim=0, correction=0).clamp(min=1e-6)
        x = self._standardize(embeddings)
        means = torch.stack(
            [x[speaker_ids == k].mean(dim=0) for k in range(len(self.speaker_names))]
        )
        within = x - means[speaker_ids]
        covariance = within.T @ within / max(1, len(x) - len(means))
        sphere = torch.eye(x.shape[1], dtype=x.dtype) * covariance.diagonal().mean().clamp(min=1e-6)
        shrunk = torch.lerp(covariance, sphere, SHRINKAGE)
        self._weight = torch.linalg.solve(shrunk, means.T)
        self._bias = -0.5 * (means.T * self._weight).sum(dim=0)

    def predict_log_probs(self, embeddings: Tensor) -> Tensor:
        """Return log-probabilities float64 `[n, S]` of the speakers, in the order of
        `speaker_names`, for embeddings `[n, d]`.
        """
        scores: Tensor = self._standardize(embeddings) @ self._weight + self._bias
        return scores.log_softmax(dim=1)

    def _standardize(self, embeddings: Tensor) -> Tensor:
        return (embeddings.double() - self._mean) / self._std
