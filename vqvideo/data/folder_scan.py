"""Find the media files below a folder, and report in one line what else is there.

Not here: `metadata.jsonl` (metadata.py), what a suffix means (`vqvideo.media.formats`).
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Collection
from functools import cache
from pathlib import Path

_MAX_REASONS = 8  # in the report
_MAX_SUFFIX_LENGTH = 12

_log = logging.getLogger(__name__)


def find_media_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files below a folder with one of these suffixes, sorted by relative path.

    Linked files and folders count as if they were in the folder itself. A folder is read once: a
    link to one that is read already, or to one that contains the data folder, is left out. So are
    hidden files (caches and incomplete files), pipes, devices and broken links. A warning counts
    everything left out by reason.

    Args:
        folder: an existing folder.
        suffixes: file name suffixes in lower case, with the dot.
    """
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    visited = {_identify(parent) for parent in folder.resolve().parents}
    pending = deque([folder])
    while pending:
        current = pending.popleft()
        try:
            if _identify(current) in visited:
                left_out["links to folders that are read already or contain the data"] += 1
                continue
            visited.add(_identify(current))
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            left_out[f"folders that cannot be read ({error.strerror})"] += 1
            continue
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                left_out["hidden"] += suffix in suffixes
            elif _is_folder(entry):
                # Links come last, so that a folder inside the data keeps its own name.
                (pending.append if entry.is_symlink() else pending.appendleft)(current / entry.name)
            elif suffix not in suffixes:
                left_out[_describe_suffix(suffix)] += 1
            elif _is_regular_file(entry):
                files.append(current / entry.name)
            else:
                left_out["pipes, devices or broken links"] += 1
    _warn_left_out(folder, +left_out)
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def _identify(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_regular_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _describe_suffix(suffix: str) -> str:
    if not suffix:
        return "without a suffix"
    is_plain = len(suffix) <= _MAX_SUFFIX_LENGTH and suffix[1:].isalnum()
    return f"ending in {suffix}" if is_plain else "with other suffixes"


def _warn_left_out(folder: Path, left_out: Counter[str]) -> None:
    if not left_out:
        return
    reasons = [f"{count} {reason}" for reason, count in left_out.most_common(_MAX_REASONS)]
    num_others = left_out.total() - sum(count for _, count in left_out.most_common(_MAX_REASONS))
    others = [f"{num_others} others"] if num_others else []
    _warn_once(f"files of {folder} that are not read: {', '.join(reasons + others)}")


@cache
def _warn_once(message: str) -> None:
    """Log a warning, but not again for every split of the same folder."""
    # Names may have bytes that are not UTF-8, which a log file could not store.
    _log.warning("%s", message.encode(errors="backslashreplace").decode())
