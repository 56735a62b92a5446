"""Metrics of phone classification from codes: count frames, and compute the metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.metrics import estimate_mean


class LabelledFrames(NamedTuple):
    """The labelled code frames of one utterance, without unlabelled ones.

    Attributes:
        codes: int64 `[n]`.
        labels: n labels.
        speaker: name of the speaker, None if unknown.
    """

    codes: Tensor
    labels: list[str]
    speaker: str | None


class FrameCounts(NamedTuple):
    """Counts of training and test frames by code and label.

    Attributes:
        labels: sorted labels.
        train: int64 `[K, num_labels]`, number of training frames with each code and label.
        test: int64 `[K, num_labels]` of the test frames.
        per_speaker: int64 `[K, num_labels]` of the test frames of each speaker.
    """

    labels: list[str]
    train: Tensor
    test: Tensor
    per_speaker: dict[str, Tensor]

    def exclude(self, silence: Iterable[str]) -> FrameCounts:
        """Return the counts without the frames of some labels."""
        excluded = set(silence)
        kept = torch.tensor([label not in excluded for label in self.labels])
        per_speaker = {name: counts * kept for name, counts in self.per_speaker.items()}
        return FrameCounts(self.labels, self.train * kept, self.test * kept, per_speaker)


def count_splits(
    train: Sequence[LabelledFrames], test: Sequence[LabelledFrames], codebook_size: int
) -> FrameCounts:
    """Count the frames of both splits by code and label."""
    labels = sorted({label for frames in (*train, *test) for label in frames.labels})
    names = sorted({frames.speaker for frames in test if frames.speaker is not None})
    return FrameCounts(
        labels,
        count_frames(train, labels, codebook_size),
        count_frames(test, labels, codebook_size),
        {
            name: count_frames(
                [utterance for utterance in test if utterance.speaker == name],
                labels,
                codebook_size,
            )
            for name in names
        },
    )


def count_frames(
    frames: Iterable[LabelledFrames], labels: Sequence[str], codebook_size: int
) -> Tensor:
    """Count the frames with each code and label: int64 `[K, num_labels]`."""
    column = {label: index for index, label in enumerate(labels)}
    counts = torch.zeros(codebook_size, len(labels), dtype=torch.int64)
    for utterance in frames:
        columns = torch.tensor([column[label] for label in utterance.labels], dtype=torch.int64)
        counts.index_put_((utterance.codes, columns), torch.ones_like(columns), accumulate=True)
    return counts


def map_codes_to_labels(counts: Tensor) -> Tensor:
    """Return the index of the most frequent label of each code, `[K]`, as in section 4.3.

    The first of equally frequent labels is taken. A code that never occurs gets the most frequent
    label overall.

    >>> map_codes_to_labels(torch.tensor([[1, 1, 0], [0, 0, 0], [0, 2, 5]])).tolist()
    [0, 2, 2]
    """
    majority = counts.sum(dim=0).argmax()
    return torch.where(counts.sum(dim=1) > 0, counts.argmax(dim=1), majority)


def compute_phone_metrics(split: FrameCounts) -> dict[str, Any]:
    """Compute the metrics of phone classification from the counts, as JSON-serializable data.

    There are two baselines, both computed as expectations and not sampled: predicting the most
    frequent training label for every test frame, and applying the map to random codes, distributed
    as in the test frames but independent of the labels. A ratio is None if its baseline is 0.

    Raises:
        ValueError: there are no frames.
    """
    for name, counts in (("training", split.train), ("test", split.test)):
        if not counts.any():
            raise ValueError(f"no {name} frame has a label other than silence; see --silence")
    mapping, num_frames = map_codes_to_labels(split.train), int(split.test.sum())
    label_counts = split.test.sum(dim=0)
    majority = int(split.train.sum(dim=0).argmax())
    accuracy = _count_correct(split.test, mapping) / num_frames
    baselines = {
        "majority": int(label_counts[majority]) / num_frames,
        "random_codes": _compute_chance_accuracy(split.test, mapping),
    }
    return {
        "accuracy": accuracy,
        "accuracy_over_speakers": _average_over_speakers(split, mapping),
        "majority_phone": split.labels[majority],
        **{f"{name}_accuracy": value for name, value in baselines.items()},
        **{
            f"times_{name}": accuracy / baseline if baseline else None
            for name, baseline in baselines.items()
        },
        "mutual_information_bits": mutual_information_bits(split.test),
        "phone_entropy_bits": _entropy_bits(label_counts / num_frames),
        "num_train_frames": int(split.train.sum()),
        "num_frames": num_frames,
        "num_labels": int((label_counts > 0).sum()),
        "num_codes_used": int(split.test.any(dim=1).sum()),
        "labels_unseen_in_training": [
            label
            for label, in_train, in_test in zip(
                split.labels, split.train.any(dim=0), split.test.any(dim=0), strict=True
            )
            if in_test and not in_train
        ],
        "recall": {
            split.labels[index]: {
                "recall": int(split.test[mapping == index, index].sum()) / int(label_counts[index]),
                "num_frames": int(label_counts[index]),
            }
            for index in label_counts.argsort(descending=True, stable=True).tolist()
            if label_counts[index]
        },
    }


def mutual_information_bits(counts: Tensor) -> float:
    """Return the mutual information of code and label in bits, from counts `[K, num_labels]`.

    The estimate is biased upwards if there are few frames per code.

    >>> mutual_information_bits(torch.tensor([[2, 0], [0, 2]]))
    1.0
    """
    probs = counts.double() / counts.sum()
    independent_bits = _entropy_bits(probs.sum(dim=0)) + _entropy_bits(probs.sum(dim=1))
    return max(
        0.0, independent_bits - _entropy_bits(probs.flatten())
    )  # rounding may give a value below 0


def _count_correct(counts: Tensor, mapping: Tensor) -> int:
    """Count the frames whose label is that of their code."""
    return int(counts.gather(1, mapping[:, None]).sum())


def _compute_chance_accuracy(counts: Tensor, mapping: Tensor) -> float:
    """Return the expected accuracy for equally distributed codes, independent of the labels."""
    probs = counts.double() / counts.sum()
    predicted_probs = torch.zeros(counts.shape[1], dtype=torch.float64)
    predicted_probs.index_add_(0, mapping, probs.sum(dim=1))
    return float(predicted_probs @ probs.sum(dim=0))


def _average_over_speakers(split: FrameCounts, mapping: Tensor) -> dict[str, Any] | None:
    """Return the unweighted mean of the speakers' accuracies and its 95 % interval, or None."""
    accuracies = [
        _count_correct(counts, mapping) / int(counts.sum())
        for counts in split.per_speaker.values()
        if counts.any()
    ]
    return (
        {**estimate_mean(accuracies)._asdict(), "num_speakers": len(accuracies)}
        if accuracies
        else None
    )


def _entropy_bits(probs: Tensor) -> float:
    """Return the entropy of a distribution in bits."""
    bits: float = torch.special.entr(probs.double()).sum().item() / math.log(2)
    return bits
