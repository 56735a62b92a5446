"""How well the codes of speech tell its phones: counting, and what the counts come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.metrics import mean_and_interval


class Frames(NamedTuple):
    """The labelled code frames of one utterance; those without a label are left out.

    Attributes:
        codes: int64 `[n]`.
        labels: n of them.
        speaker: who speaks, None where nobody knows.
    """

    codes: Tensor
    labels: list[str]
    speaker: str | None


class Split(NamedTuple):
    """Training and test frames as counts.

    Attributes:
        labels: sorted.
        train: int64 `[K, num_labels]`, how often each code stands where each label does.
        test: the same of the test frames.
        speakers: the same of each test speaker alone.
    """

    labels: list[str]
    train: Tensor
    test: Tensor
    speakers: dict[str, Tensor]

    def without(self, silence: Iterable[str]) -> Split:
        """The same without the frames of some labels."""
        left_out = set(silence)
        kept = torch.tensor([label not in left_out for label in self.labels])
        speakers = {name: counts * kept for name, counts in self.speakers.items()}
        return Split(self.labels, self.train * kept, self.test * kept, speakers)


def split_of(train: Sequence[Frames], test: Sequence[Frames], codebook_size: int) -> Split:
    """Count the frames of both splits."""
    labels = sorted({label for frames in (*train, *test) for label in frames.labels})
    names = sorted({frames.speaker for frames in test if frames.speaker is not None})
    return Split(
        labels,
        count(train, labels, codebook_size),
        count(test, labels, codebook_size),
        {
            name: count([each for each in test if each.speaker == name], labels, codebook_size)
            for name in names
        },
    )


def count(frames: Iterable[Frames], labels: Sequence[str], codebook_size: int) -> Tensor:
    """How often each code stands where each label does: int64 `[K, num_labels]`."""
    column = {label: index for index, label in enumerate(labels)}
    counts = torch.zeros(codebook_size, len(labels), dtype=torch.int64)
    for each in frames:
        columns = torch.tensor([column[label] for label in each.labels], dtype=torch.int64)
        counts.index_put_((each.codes, columns), torch.ones_like(columns), accumulate=True)
    return counts


def most_frequent(counts: Tensor) -> Tensor:
    """The column `[K]` of the most frequent label of each code, as section 4.3 maps codes.

    Of equals the first; a code that never occurs has the label that is commonest over all.

    >>> most_frequent(torch.tensor([[1, 1, 0], [0, 0, 0], [0, 2, 5]])).tolist()
    [0, 2, 2]
    """
    commonest = counts.sum(dim=0).argmax()
    return torch.where(counts.sum(dim=1) > 0, counts.argmax(dim=1), commonest)


def figures_of(split: Split) -> dict[str, Any]:
    """What the counts come to, as plain data that JSON can hold.

    Both baselines are expectations worked out from the counts, not drawn: the commonest training
    label said of every test frame, and the map given codes drawn from how often each occurs in the
    test frames, whatever is said there. A ratio is None where its baseline is 0.

    Raises:
        ValueError: there are no frames.
    """
    for name, counts in (("training", split.train), ("test", split.test)):
        if not counts.any():
            raise ValueError(f"no {name} frame has a label that is not silence; see --silence")
    mapping, num_frames = most_frequent(split.train), int(split.test.sum())
    of_label = split.test.sum(dim=0)
    commonest = int(split.train.sum(dim=0).argmax())
    accuracy = _num_right(split.test, mapping) / num_frames
    baselines = {
        "commonest": int(of_label[commonest]) / num_frames,
        "drawn_codes": _drawn(split.test, mapping),
    }
    return {
        "accuracy": accuracy,
        "accuracy_over_speakers": _over_speakers(split, mapping),
        "commonest_phone": split.labels[commonest],
        **{f"{name}_accuracy": value for name, value in baselines.items()},
        **{f"times_{name}": accuracy / v if v else None for name, v in baselines.items()},
        "mutual_information_bits": mutual_information_bits(split.test),
        "phone_entropy_bits": _entropy_bits(of_label / num_frames),
        "num_train_frames": int(split.train.sum()),
        "num_frames": num_frames,
        "num_labels": int((of_label > 0).sum()),
        "num_codes_used": int(split.test.any(dim=1).sum()),
        "labels_unseen_in_training": [
            label
            for label, seen, here in zip(
                split.labels, split.train.any(dim=0), split.test.any(dim=0), strict=True
            )
            if here and not seen
        ],
        "recall": {
            split.labels[index]: {
                "recall": int(split.test[mapping == index, index].sum()) / int(of_label[index]),
                "num_frames": int(of_label[index]),
            }
            for index in of_label.argsort(descending=True, stable=True).tolist()
            if of_label[index]
        },
    }


def mutual_information_bits(counts: Tensor) -> float:
    """Between code and label, in bits, of counts `[K, num_labels]`: what a code tells of a label.

    Few frames for many codes make it too large.

    >>> mutual_information_bits(torch.tensor([[2, 0], [0, 2]]))
    1.0
    """
    share = counts.double() / counts.sum()
    apart = _entropy_bits(share.sum(dim=0)) + _entropy_bits(share.sum(dim=1))
    return max(0.0, apart - _entropy_bits(share.flatten()))  # rounding may leave less than 0


def _num_right(counts: Tensor, mapping: Tensor) -> int:
    return int(counts.gather(1, mapping[:, None]).sum())


def _drawn(counts: Tensor, mapping: Tensor) -> float:
    """Expected accuracy with codes drawn, apart from the labels, from how often each occurs."""
    share = counts.double() / counts.sum()
    said = torch.zeros(counts.shape[1], dtype=torch.float64)
    said.index_add_(0, mapping, share.sum(dim=1))
    return float(said @ share.sum(dim=0))


def _over_speakers(split: Split, mapping: Tensor) -> dict[str, Any] | None:
    """Mean of the speakers' accuracies, each counted alike, and its 95 % interval; None without."""
    each = [_num_right(n, mapping) / int(n.sum()) for n in split.speakers.values() if n.any()]
    return {**mean_and_interval(each)._asdict(), "num_speakers": len(each)} if each else None


def _entropy_bits(share: Tensor) -> float:
    bits: float = torch.special.entr(share.double()).sum().item() / math.log(2)
    return bits
