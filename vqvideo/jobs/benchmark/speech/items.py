"""Which recordings `vqvideo benchmark speech` learns voices from, and which it measures on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vqvideo.data.clips import SUFFIXES
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import Item


class Recordings(NamedTuple):
    """Sound files, each of which has a speaker.

    Attributes:
        voices: what the classifier of voices learns from: the train split of the speakers that the
            model was trained on, and the first half of the utterances of each other one.
        held_out: the test split of the speakers that the model was trained on.
        unseen: the second half of the utterances of each other speaker.
    """

    voices: list[Item]
    held_out: list[Item]
    unseen: list[Item]


def recordings_of(data: str, unseen: str, known: Sequence[str]) -> Recordings:
    """What is in two folders, looked through before any work is done.

    Args:
        data: speakers that the model was trained on.
        unseen: others, whatever the splits of their files.
        known: the names that the model knows.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a file has no speaker; --data has no files of its own for testing, or speakers
            that the model does not know; --unseen has one that it does.
    """
    items, others = list_items(data, SUFFIXES[1]), list_items(unseen, SUFFIXES[1])
    train, test = (items_of(items, split) for split in ("train", "test"))
    if not train or not test or train == test:
        raise ValueError(
            f"--data {data} has {len(items)} files and none of them for "
            f"{'training' if test and not train else 'testing alone'}; say in metadata.jsonl which "
            f'are for testing ("split": "test")'
        )
    of_data, of_unseen = ({speaker_of(item) for item in some} for some in (items, others))
    if shared := sorted(of_unseen & {*of_data, *known}):
        raise ValueError(
            f"the model has heard {', '.join(shared)}, who also speaks in --unseen {unseen}; its "
            f"speakers must be others than those of --data and of the model"
        )
    if strange := sorted(of_data - set(known)):
        raise ValueError(
            f"the model knows no speaker {strange[0]!r}; --data must be of those that it was "
            f"trained on: {', '.join(known)}"
        )
    if silent := sorted({speaker_of(item) for item in test} - {speaker_of(item) for item in train}):
        raise ValueError(
            f"all files of {silent[0]!r} in --data are for testing, so that nothing tells their "
            f"voice; give some for training"
        )
    first, second = _halves(others)
    return Recordings([*train, *first], test, second)


def speaker_of(item: Item) -> str:
    """Who speaks in a file; raises `ValueError` where nobody says."""
    if item.speaker is None:
        raise ValueError(
            f'{item.path} has no speaker; name one for every file in metadata.jsonl ("speaker")'
        )
    return item.speaker


def _halves(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The first and the second half of each speaker's files, the odd one in the second."""
    halves: tuple[list[Item], list[Item]] = ([], [])
    for speaker in dict.fromkeys(speaker_of(item) for item in items):
        own = [item for item in items if item.speaker == speaker]
        if len(own) < 2:
            raise ValueError(
                f"{own[0].path.name} is the only file of {speaker!r} in --unseen; two are "
                f"needed, one to learn their voice from"
            )
        halves[0].extend(own[: len(own) // 2])
        halves[1].extend(own[len(own) // 2 :])
    return halves
