"""Split of recordings for `tools/benchmark.py speech`: classifier training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vqvideo.data.clips import SUFFIXES_BY_RANK
from vqvideo.data.items import list_items, select_split
from vqvideo.data.metadata import Item


class Recordings(NamedTuple):
    """Audio files with speakers.

    Attributes:
        classifier_train: training data of the speaker classifier: the train split of the speakers
            that the model was trained on, and the first half of the utterances of each unseen
            speaker.
        test: the test split of the speakers that the model was trained on.
        unseen: the second half of the utterances of each unseen speaker.
    """

    classifier_train: list[Item]
    test: list[Item]
    unseen: list[Item]


def split_recordings(data: str, unseen: str, known: Sequence[str]) -> Recordings:
    """Split the recordings of two folders, and check that they fit the model.

    Args:
        data: a folder of speakers that the model was trained on.
        unseen: a folder of other speakers; the splits of its files are ignored.
        known: names of the speakers that the model was trained on.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a file has no speaker; --data has no separate test split, or speakers that the
            model does not know; --unseen has a speaker that the model knows.
    """
    items, others = list_items(data, SUFFIXES_BY_RANK[1]), list_items(unseen, SUFFIXES_BY_RANK[1])
    train, test = (select_split(items, split) for split in ("train", "test"))
    if not train or not test or train == test:
        raise ValueError(
            f"--data {data} has {len(items)} files but no separate "
            f"{'train' if test and not train else 'test'} split; mark the test files in "
            f'metadata.jsonl with "split": "test"'
        )
    data_speakers, unseen_speakers = (
        {get_speaker(item) for item in folder_items} for folder_items in (items, others)
    )
    if shared := sorted(unseen_speakers & {*data_speakers, *known}):
        raise ValueError(
            f"--unseen {unseen} must not contain speakers of --data or of the model, "
            f"got {', '.join(shared)}"
        )
    if unknown := sorted(data_speakers - set(known)):
        raise ValueError(
            f"the model knows no speaker {unknown[0]!r}; --data must only contain speakers that it "
            f"was trained on: {', '.join(known)}"
        )
    if untrained := sorted(
        {get_speaker(item) for item in test} - {get_speaker(item) for item in train}
    ):
        raise ValueError(
            f"all files of {untrained[0]!r} in --data are in the test split; put some in the train "
            f"split, for the speaker classifier"
        )
    first, second = _split_halves(others)
    return Recordings([*train, *first], test, second)


def get_speaker(item: Item) -> str:
    """Return the speaker of a file; raise `ValueError` if it has none."""
    if item.speaker is None:
        raise ValueError(
            f'{item.path} has no speaker; set "speaker" for every file in metadata.jsonl'
        )
    return item.speaker


def _split_halves(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Return the first and the second half of each speaker's files; an odd one is in the second."""
    halves: tuple[list[Item], list[Item]] = ([], [])
    for speaker in dict.fromkeys(get_speaker(item) for item in items):
        speaker_items = [item for item in items if item.speaker == speaker]
        if len(speaker_items) < 2:
            raise ValueError(
                f"{speaker_items[0].path.name} is the only file of {speaker!r} in --unseen; at "
                f"least two are needed, one of them to train the speaker classifier"
            )
        halves[0].extend(speaker_items[: len(speaker_items) // 2])
        halves[1].extend(speaker_items[len(speaker_items) // 2 :])
    return halves
