"""Read and write the metadata of a data folder: its media files and their labels.

A folder may have a `metadata.jsonl`, one JSON object per line:

    {"file": "episode_00000.mp4", "split": "test", "actions": "episode_00000.actions.npy"}

`file` is required and relative to the folder; `split` is "train" (the default) or "test";
`class`, `speaker`, `actions` (a `.npy` array) and `segments` are optional. Segments label parts of
a file, such as the phones of an utterance, by start and end in seconds and a label,

    {"file": "a.wav", "speaker": "p225", "segments": [[0.0, 0.31, "SIL"], [0.31, 0.4, "HH"]]}

in order of time and without overlap; gaps are allowed. The file is parsed strictly, because it
decides the training data: a misspelled key must not result in a clip without a class. Without
`metadata.jsonl`, every media file below the folder is a training item, and the name of its
subfolder is its class.

Not here: listing the files of a folder (folder_scan.py), opening the media (`vqvideo.media`),
windows of them (the data sets).
"""

import json
import os
import reprlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from vqvideo.data.folder_scan import find_media_files
from vqvideo.media.formats import VIDEO_SUFFIXES

METADATA_NAME = "metadata.jsonl"
SPLITS = ("train", "test")

Split = Literal["train", "test"]
_KEYS = ("file", "split", "class", "speaker", "actions", "segments")
_REPR = reprlib.Repr()  # shortens values in messages: a line may have 100 MB
_REPR.maxstring = _REPR.maxother = 200


class Segment(NamedTuple):
    """A labeled part of a file, such as a phone of an utterance.

    Attributes:
        start: start in seconds from the beginning of the file, at least 0.
        end: end in seconds (exclusive), greater than `start`.
        label: the label, not empty.
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One media file and its metadata.

    Attributes:
        path: path of the media file: the data folder joined with the relative path.
        split: "train" or "test"; applies to the whole file.
        class_name: name of the class; None if it has none.
        speaker: name of the speaker; None if there is none or it is unknown.
        actions: a `.npy` file of the actions between the frames; None if there is none.
        segments: labeled parts in order of time, without overlap; empty if there are none.
    """

    path: Path
    split: Split = "train"
    class_name: str | None = None
    speaker: str | None = None
    actions: Path | None = None
    segments: tuple[Segment, ...] = ()


def read_metadata(folder: str | Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> list[Item]:
    """Read the items of a data folder from `metadata.jsonl`, or else list its media files.

    Args:
        folder: the data folder.
        suffixes: suffixes of media files, with the dot; case is ignored. They matter only without
            a `metadata.jsonl`, which may name any file.

    Returns:
        One item per file: in the order of `metadata.jsonl`, or sorted by relative path.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: `folder` is a file, `metadata.jsonl` cannot be read, or a line of it is
            invalid; the message names file and line.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(
            f"{str(folder)!r} is a file, expected a folder; give the folder that contains it"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {str(folder)!r} does not exist")
    metadata = folder / METADATA_NAME
    if not os.path.lexists(metadata):
        files = find_media_files(folder, {suffix.lower() for suffix in suffixes})
        return [Item(file, class_name=_get_class_name(folder, file)) for file in files]
    if not metadata.is_file():
        raise ValueError(f"{metadata} is a folder, a pipe or a broken link, expected a file")
    try:
        lines = metadata.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{metadata} cannot be read ({error.strerror})") from error
    items: list[Item] = []
    first_line: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{metadata}, line {number}"
        item = _parse_line(folder, line, where)
        if item.path in first_line:
            raise ValueError(
                f"{where}: expected each file once, got {_to_relative(folder, item.path)!r} "
                f"again (first in line {first_line[item.path]})"
            )
        first_line[item.path] = number
        items.append(item)
    return items


def write_metadata(folder: str | Path, items: Iterable[Item]) -> Path:
    """Write `metadata.jsonl` so that `read_metadata` returns the same items.

    The file is written atomically, under a temporary name that is then renamed.

    Args:
        folder: an existing folder; it must contain every path of the items.
        items: the items, in the order of the lines.

    Returns:
        The path of `metadata.jsonl`.
    """
    folder = Path(folder)
    lines = [json.dumps(_to_row(folder, item), ensure_ascii=False) + "\n" for item in items]
    # A file name that is not UTF-8 has surrogates; their escapes are valid JSON.
    lines = [line.encode("utf-8", "backslashreplace").decode() for line in lines]
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


def _get_class_name(folder: Path, file: Path) -> str | None:
    return None if file.parent == folder else file.parent.name


def _parse_line(folder: Path, line: bytes, where: str) -> Item:
    try:
        row: object = json.loads(line.decode(), object_pairs_hook=_reject_duplicate_keys)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: expected UTF-8, got the byte 0x{line[error.start]:02x} at position "
            f"{error.start} of the line; save the file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        text = _REPR.repr(line.decode())
        raise ValueError(f"{where}: expected one JSON object, got {text} ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected one JSON object, got {_REPR.repr(row)}")
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise ValueError(
            f"{where}: unknown key {_REPR.repr(unknown[0])}; expected one of: {', '.join(_KEYS)}"
        )
    for key, value in row.items():
        if key != "segments" and (not isinstance(value, str) or not value):
            raise ValueError(
                f"{where}: expected {key!r} to be a non-empty string, got {_REPR.repr(value)}"
            )
    if "file" not in row:
        raise ValueError(f"{where}: expected the key 'file', got only: {', '.join(row) or 'none'}")
    split = row.get("split", "train")
    if split not in SPLITS:
        raise ValueError(
            f"{where}: expected 'split' to be 'train' or 'test', got {_REPR.repr(split)}"
        )
    return Item(
        path=_resolve_path(folder, row["file"], "file", where),
        split=cast(Split, split),
        class_name=row.get("class"),
        speaker=row.get("speaker"),
        actions=_resolve_path(folder, row["actions"], "actions", where)
        if "actions" in row
        else None,
        segments=_parse_segments(row["segments"], where) if "segments" in row else (),
    )


def _parse_segments(entries: object, where: str) -> tuple[Segment, ...]:
    if not isinstance(entries, list):
        raise ValueError(f"{where}: expected 'segments' to be a list, got {_REPR.repr(entries)}")
    segments: list[Segment] = []
    for entry in entries:
        match entry:
            case [start, end, str(label)] if label and _is_time(start) and _is_time(end):
                segment = Segment(float(start), float(end), label)
            case _:
                raise ValueError(
                    f"{where}: expected each of 'segments' to be [start_seconds, end_seconds, "
                    f'"label"] with finite times from 0 on and a label, got {_REPR.repr(entry)}'
                )
        if segment.start >= segment.end:
            raise ValueError(
                f"{where}: expected each of 'segments' to end after it starts, "
                f"got {_REPR.repr(entry)}"
            )
        if segments and segment.start < segments[-1].end:
            raise ValueError(
                f"{where}: expected 'segments' in order of time and without overlap, but "
                f"{_REPR.repr(entry)} starts before {_REPR.repr(list(segments[-1]))} ends"
            )
        segments.append(segment)
    return tuple(segments)


def _is_time(value: object) -> bool:
    """Return whether a value is a valid time in seconds; Python's JSON allows NaN and Infinity."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= cast(float, value) <= sys.float_info.max


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # json.loads silently keeps the last of two equal keys.
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("duplicate key")
    return row


def _resolve_path(folder: Path, name: str, key: str, where: str) -> Path:
    # Links are not resolved: a folder of links to a data set elsewhere is the owner's choice, but
    # "../" in a downloaded file is not.
    path = Path(os.path.normpath(folder / name))
    if Path(name).is_absolute() or not path.is_relative_to(os.path.normpath(folder)):
        raise ValueError(
            f"{where}: expected {key!r} to stay inside the folder, got {_REPR.repr(name)}"
        )
    path = folder / path.relative_to(os.path.normpath(folder))
    try:
        is_file = path.is_file()
    except OSError:  # such as a name that is too long
        is_file = False
    if not is_file:
        raise ValueError(
            f"{where}: expected {key!r} to name a file below {folder}, got {_REPR.repr(name)}"
        )
    return path


def _to_relative(folder: Path, path: Path) -> str:
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        raise ValueError(f"expected a path inside {folder}, got {path}")
    return path.relative_to(folder).as_posix()


def _to_row(folder: Path, item: Item) -> dict[str, Any]:
    row: dict[str, Any] = {"file": _to_relative(folder, item.path), "split": item.split}
    if item.class_name is not None:
        row["class"] = item.class_name
    if item.speaker is not None:
        row["speaker"] = item.speaker
    if item.actions is not None:
        row["actions"] = _to_relative(folder, item.actions)
    if item.segments:
        row["segments"] = [list(segment) for segment in item.segments]
    return row
