"""List the files of a data set and split them into training and test files.

If `metadata.jsonl` assigns files to the test split, it decides. Otherwise every tenth file is a
test file, evenly spread; a single file is split at its end. The split does not depend on whether
files can be read: a file that becomes corrupt later does not move any other file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from vqvideo.data.metadata import Item, read_metadata

T = TypeVar("T")


def list_items(folder: str | Path | Sequence[str | Path], suffixes: tuple[str, ...]) -> list[Item]:
    """Return the items of a folder, or of a list of files, which then have no metadata.

    Raises:
        ValueError: there is no file, or one is in the list twice.
        FileNotFoundError: the folder, or a file of the list, does not exist.
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
        duplicate = next(item.path for item in items if items.count(item) > 1)
        raise ValueError(f"the list must contain each file once, got {duplicate} more than once")
    for item in items:
        if not os.path.exists(item.path):
            raise FileNotFoundError(f"{item.path} does not exist; check the path")
    return items


def select_split(items: Sequence[Item], split: str) -> list[Item]:
    """Return the files of a split; a single file without a test split belongs to both.

    Raises:
        ValueError: `split` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if any(item.split == "test" for item in items):
        return [item for item in items if item.split == split]
    if len(items) == 1:
        return list(items)
    num_test = max(1, len(items) // 10)  # evenly spread, so that all subfolders are represented
    test_indices = set(evenly_spaced(range(len(items)), num_test))
    return [item for i, item in enumerate(items) if (i in test_indices) == (split == "test")]


def split_starts(starts: range, split: str, length: int) -> range:
    """Split the windows of a single file: the last tenth for testing, the others for training.

    Training windows that share a frame with a test window are left out.

    >>> split_starts(range(0, 17), "test", length=4)
    range(16, 17)
    >>> split_starts(range(0, 17), "train", length=4)
    range(0, 13)
    """
    first = len(starts) - max(1, len(starts) // 10)
    if split == "test" or not starts:
        return starts[first:]
    return range(0, starts[first] - length + 1, starts.step)


def collect_names(names: Sequence[str | None]) -> list[str]:
    """Return the sorted unique names of classes or speakers; [] unless every file has one."""
    return sorted({name for name in names if name}) if all(names) else []


def evenly_spaced(
    items: Sequence[T], max_items: int | None, *, from_start: bool = False
) -> list[T]:
    """Return at most `max_items` items: the middle one of each of `max_items` equal parts.

    Args:
        items: the items; to select indices, give `range(length)`.
        max_items: the maximum number of items; None returns all.
        from_start: return the first item of each part, so that item 0 is always included.

    >>> evenly_spaced(range(10), 3), evenly_spaced(range(10), 3, from_start=True)
    ([1, 5, 8], [0, 3, 6])
    """
    num_items = len(items) if max_items is None else min(max_items, len(items))
    offset = 0 if from_start else len(items)
    return [items[(2 * i * len(items) + offset) // (2 * num_items)] for i in range(num_items)]
