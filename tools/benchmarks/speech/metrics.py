"""Metrics of `tools/benchmark.py speech`, averaged over speakers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from vqvideo.metrics import estimate_mean


class UtteranceMetric(NamedTuple):
    """A metric of one utterance.

    Attributes:
        speaker: the speaker of the recording.
        total: the sum over all items.
        num_items: number of items: frames, samples, or the single utterance.
    """

    speaker: str
    total: float
    num_items: int = 1


class SpeakerPrediction(NamedTuple):
    """The prediction of the speaker classifier for one utterance.

    Attributes:
        source: the speaker of the recording.
        target: the target speaker of the conversion.
        log_probs: `[S]`, log-probabilities of all speakers.
    """

    source: str
    target: str
    log_probs: Tensor


def average_over_speakers(metrics: Iterable[UtteranceMetric]) -> dict[str, Any]:
    """Return the mean of the per-speaker means, with equal weights, and its 95 % interval.

    Utterances of one speaker are correlated, so an interval over utterances would be too narrow.
    The mean of a speaker is over all items of their utterances.

    >>> metrics = [("ann", 1, 2), ("ann", 2, 2), ("bob", 0.25)]
    >>> result = average_over_speakers(UtteranceMetric(*metric) for metric in metrics)
    >>> result["mean"], result["num_speakers"], result["num_tallies"]
    (0.5, 2, 3)
    """
    sums: dict[str, tuple[float, int]] = {}
    num_utterances = 0
    for metric in metrics:
        total, num_items = sums.get(metric.speaker, (0.0, 0))
        sums[metric.speaker] = total + metric.total, num_items + metric.num_items
        num_utterances += 1
    estimate = estimate_mean([total / num_items for total, num_items in sums.values()])
    return {**estimate._asdict(), "num_speakers": len(sums), "num_tallies": num_utterances}


def average_groups(
    groups: Mapping[str, Mapping[str, Sequence[UtteranceMetric]]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Average each metric of each group over speakers."""
    return {
        group: {name: average_over_speakers(values) for name, values in metrics.items()}
        for group, metrics in groups.items()
    }


def summarize_predictions(
    predictions: Sequence[SpeakerPrediction], speaker_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Summarize the predictions of the speaker classifier, averaged over source speakers.

    Args:
        predictions: predictions for all utterances.
        speaker_names: names of the speakers, in the order of the log-probabilities.

    Returns:
        `target`, `source`, `other_speaker`: fractions of utterances for which that speaker is the
        most probable, summing to 1; `target_over_source`: fraction for which the target is more
        probable than the source; `target_rank`: rank of the target speaker.
    """
    rows: dict[str, list[UtteranceMetric]] = {}
    for source, target, log_probs in predictions:
        best = speaker_names[int(log_probs.argmax())]
        target_log_prob = log_probs[speaker_names.index(target)]
        metrics = {
            "target": best == target,
            "source": best == source,
            "other_speaker": best not in (target, source),
            "target_over_source": bool(target_log_prob > log_probs[speaker_names.index(source)]),
            "target_rank": int((log_probs >= target_log_prob).sum()),
        }
        for name, value in metrics.items():
            rows.setdefault(name, []).append(UtteranceMetric(source, float(value)))
    return {name: average_over_speakers(values) for name, values in rows.items()}
