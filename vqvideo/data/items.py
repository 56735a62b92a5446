"""Which files there are, which of them train and which test.

Where a table says which files are for testing, it decides. Where it says nothing every tenth
file is, spread evenly; of a single file, the end of it. Whether files can be read plays no part:
one that breaks later moves no other to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from vqvideo.data.metadata import Item, read_metadata

T = TypeVar("T")


def list_items(folder: str | Path | Sequence[str | Path], suffixes: tuple[str, ...]) -> list[Item]:
    """The files of a folder, or those of a list, of which nothing else is known.

    Raises:
        ValueError: no file, or one is in the list twice.
        FileNotFoundError: the folder does not exist.
    """
    if isinstance(folder, str | Path):
        items = read_metadata(folder, suffixes)
        if not items:
            raise ValueError(
                f"{folder} holds no file ending in {', '.join(suffixes)} and no metadata.jsonl"
            )
        return items
    items = [Item(Path(path)) for path in folder]
    if not items:
        raise ValueError("the list of files is empty")
    if len(set(items)) < len(items):
        twice = next(item.path for item in items if items.count(item) > 1)
        raise ValueError(f"each file must be in the list once, {twice} is there more often")
    return items


def items_of(items: Sequence[Item], split: str) -> list[Item]:
    """The files of a split; a single one about which nothing is said belongs to both.

    Raises:
        ValueError: `split` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if any(item.split == "test" for item in items):
        return [item for item in items if item.split == split]
    if len(items) == 1:
        return list(items)
    number = max(1, len(items) // 10)  # spread evenly, so that every folder gives some
    held_out = {(2 * i + 1) * len(items) // (2 * number) for i in range(number)}
    return [item for i, item in enumerate(items) if (i in held_out) == (split == "test")]


def starts_of_the_only_file(starts: range, split: str, length: int) -> range:
    """The last tenth of its windows for testing; for training, those that share no frame with it.

    >>> starts_of_the_only_file(range(0, 17), "test", length=4)
    range(16, 17)
    >>> starts_of_the_only_file(range(0, 17), "train", length=4)
    range(0, 13)
    """
    first = len(starts) - max(1, len(starts) // 10)
    if split == "test" or not starts:
        return starts[first:]
    return range(0, starts[first] - length + 1, starts.step)


def different_names(given: Sequence[str | None]) -> list[str]:
    """The different names of classes or speakers, sorted; none at all unless every file has one."""
    return sorted({name for name in given if name}) if all(given) else []


def spread(things: Sequence[T], most: int | None) -> list[T]:
    """At most so many of some things, evenly spread; None is all.

    >>> spread(range(10), 3)
    [1, 5, 8]
    """
    number = len(things) if most is None else min(most, len(things))
    return [things[(2 * i + 1) * len(things) // (2 * number)] for i in range(number)]
