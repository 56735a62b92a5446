"""Which media files a data folder holds, and what is known about each.

A folder may carry `metadata.jsonl`, one JSON object on each line:

    {"file": "episode_00000.mp4", "split": "test", "actions": "episode_00000.actions.npy"}

`file` is required and relative to the folder; `split` is "train" (the default) or "test";
`class`, `speaker`, `actions` (a `.npy` array) and `segments` may be left out. Segments say what
a stretch of a file is, such as a phone of speech: start and end in seconds, and a label,

    {"file": "a.wav", "speaker": "p225", "segments": [[0.0, 0.31, "SIL"], [0.31, 0.4, "HH"]]}

in order of time and without overlap; between them may be gaps. The file is read strictly:
what it says is what a model will be trained on, so a typing error must not become a clip
without a class. Without the file, every media file below the folder is an item for training
and the name of its sub-folder is its class.

Not here: opening the media (`vqvideo.media`), cutting clips out of them (the data sets).
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

METADATA_NAME = "metadata.jsonl"
SPLITS = ("train", "test")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")

Split = Literal["train", "test"]
_KEYS = ("file", "split", "class", "speaker", "actions", "segments")


class Segment(NamedTuple):
    """A stretch of a file that has a label, such as a phone of speech.

    Attributes:
        start: in seconds from the beginning of the file, at least 0.
        end: in seconds, later than `start`; it belongs to the segment no more.
        label: not empty.
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One media file and what is known about it.

    Attributes:
        path: the media file: the folder it was read from, then its relative path.
        split: "train" or "test"; whole files belong to one of the two.
        class_name: name of its class, None where it has none.
        speaker: name of who speaks, None where nobody does or nobody knows.
        actions: a `.npy` file of the actions between its frames, None without.
        segments: its labelled stretches in order of time, none of which overlap; empty without.
    """

    path: Path
    split: Split = "train"
    class_name: str | None = None
    speaker: str | None = None
    actions: Path | None = None
    segments: tuple[Segment, ...] = ()


def read_metadata(folder: str | Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> list[Item]:
    """The items of a data folder: its `metadata.jsonl`, else the media files found below it.

    Args:
        folder: the data folder.
        suffixes: endings that make a file a medium, in any case, with their dot. They matter
            only where there is no `metadata.jsonl`, which may name any file.

    Returns:
        One item per file: in the order of `metadata.jsonl`, or sorted by relative path.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a line of `metadata.jsonl` is wrong; the message names file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {str(folder)!r} does not exist")
    metadata = folder / METADATA_NAME
    if not metadata.exists():
        return list(_scan(folder, {suffix.lower() for suffix in suffixes}))
    items: list[Item] = []
    first_line: dict[Path, int] = {}
    # Split at "\n" alone: splitlines() would also break at separators JSON allows in strings.
    for number, line in enumerate(metadata.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{metadata}, line {number}"
        item = _parse_line(folder, line, where)
        if item.path in first_line:
            raise ValueError(
                f"{where}: expected each file once, but {_relative(folder, item.path)!r} "
                f"is in line {first_line[item.path]} already"
            )
        first_line[item.path] = number
        items.append(item)
    return items


def write_metadata(folder: str | Path, items: Iterable[Item]) -> Path:
    """Writes `metadata.jsonl` so that `read_metadata` gives the same items again.

    The file is complete or absent, never half: it is written under another name and renamed.

    Args:
        folder: an existing folder; every path of the items must lie below it.
        items: in the order of the lines.

    Returns:
        The path of `metadata.jsonl`.
    """
    folder = Path(folder)
    lines = [json.dumps(_to_row(folder, item), ensure_ascii=False) + "\n" for item in items]
    target = folder / METADATA_NAME
    temporary = folder / f".{METADATA_NAME}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _scan(folder: Path, suffixes: set[str]) -> Iterator[Item]:
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        parts = path.relative_to(folder).parts
        # Hidden names are caches and half-written files, never data.
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() in suffixes and path.is_file() and not hidden:
            yield Item(path, class_name=parts[-2] if len(parts) > 1 else None)


def _parse_line(folder: Path, line: str, where: str) -> Item:
    try:
        row: object = json.loads(line, object_pairs_hook=_refuse_repeated_keys)
    except ValueError as error:
        raise ValueError(f"{where}: expected one JSON object, got {line!r} ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected one JSON object, got {line!r}")
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; a line has: {', '.join(_KEYS)}")
    for key, value in row.items():
        if key != "segments" and (not isinstance(value, str) or not value):
            raise ValueError(f"{where}: expected {key!r} to be a non-empty string, got {value!r}")
    if "file" not in row:
        raise ValueError(f"{where}: expected the key 'file', got only: {', '.join(row) or 'none'}")
    split = row.get("split", "train")
    if split not in SPLITS:
        raise ValueError(f"{where}: expected 'split' to be 'train' or 'test', got {split!r}")
    return Item(
        path=_existing(folder, row["file"], "file", where),
        split=cast(Split, split),
        class_name=row.get("class"),
        speaker=row.get("speaker"),
        actions=_existing(folder, row["actions"], "actions", where) if "actions" in row else None,
        segments=_parse_segments(row["segments"], where) if "segments" in row else (),
    )


def _parse_segments(given: object, where: str) -> tuple[Segment, ...]:
    if not isinstance(given, list):
        raise ValueError(f"{where}: expected 'segments' to be a list, got {given!r}")
    segments: list[Segment] = []
    for entry in given:
        match entry:
            case [start, end, str(label)] if label and _is_time(start) and _is_time(end):
                segment = Segment(float(start), float(end), label)
            case _:
                raise ValueError(
                    f"{where}: expected each of 'segments' to be [start_seconds, end_seconds, "
                    f'"label"] with finite times from 0 on and a label, got {entry!r}'
                )
        if segment.start >= segment.end:
            raise ValueError(
                f"{where}: expected each of 'segments' to end after it starts, got {entry!r}"
            )
        if segments and segment.start < segments[-1].end:
            raise ValueError(
                f"{where}: expected 'segments' in order of time and without overlap, but {entry!r} "
                f"starts before {list(segments[-1])!r} ends"
            )
        segments.append(segment)
    return tuple(segments)


def _is_time(value: object) -> bool:
    """Whether it can be a time in seconds; JSON as Python reads it has NaN and Infinity too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= cast(float, value) <= sys.float_info.max


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Plain JSON keeps the last of two equal keys: one of the two was not meant.
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key comes twice")
    return row


def _existing(folder: Path, name: str, key: str, where: str) -> Path:
    # Only what the name says is judged, not where links lead: a folder of links to a data set
    # elsewhere is the owner's choice, "../" in a downloaded file is not.
    path = Path(os.path.normpath(folder / name))
    if Path(name).is_absolute() or not path.is_relative_to(os.path.normpath(folder)):
        raise ValueError(f"{where}: expected {key!r} to stay inside the folder, got {name!r}")
    path = folder / path.relative_to(os.path.normpath(folder))
    if not path.is_file():
        raise ValueError(f"{where}: expected {key!r} to name a file below {folder}, got {name!r}")
    return path


def _relative(folder: Path, path: Path) -> str:
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        raise ValueError(f"expected a path inside {folder}, got {path}")
    return path.relative_to(folder).as_posix()


def _to_row(folder: Path, item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {"file": _relative(folder, item.path), "split": item.split}
    if item.class_name is not None:
        row["class"] = item.class_name
    if item.speaker is not None:
        row["speaker"] = item.speaker
    if item.actions is not None:
        row["actions"] = _relative(folder, item.actions)
    if item.segments:
        row["segments"] = [list(segment) for segment in item.segments]
    return row
