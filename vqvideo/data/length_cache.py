"""Measure the lengths of many files once and keep them in a cache folder.

One cache file per data folder contains `{path: [bytes, mtime, steps, seconds]}`. A media file is
opened again only if its size or modification time has changed. The first line is the digest of the
second: if it does not match, all files are measured again.

The cache folder is `$VQVIDEO_CACHE`, or `~/.cache/vqvideo`; it may be deleted at any time.

Not here: how a file is measured (readers.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vqvideo.data.readers import Extent, Reader
from vqvideo.media import MediaError
from vqvideo.media.files import output_file, wrap_read_errors

_FORMAT_VERSION = 1  # increase it when `Reader.measure` returns something else

Entry = list[float]  # size in bytes, modification time in ns, and the two fields of `Extent`


def measure_lengths(
    paths: Sequence[Path],
    reader: Reader,
    *,
    on_error: Callable[[Path, MediaError], object],
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, Extent]:
    """Return the length of each file that can be read.

    Files that cannot be read are not cached: they are tried again the next time.

    Args:
        paths: the files. One that no longer exists is reported like any other.
        reader: the reader that measures them.
        on_error: called for each file that cannot be read; it may raise to stop.
        progress: called with (files opened, files to open), if any must be opened.
    """
    cache_file = _get_cache_path(paths, reader.kind)
    entries = _load(cache_file)
    states: dict[Path, Entry] = {}
    for path in paths:
        try:
            states[path] = _get_state(path)
        except MediaError as error:
            on_error(path, error)
    outdated = [path for path in states if entries.get(_get_key(path), [])[:2] != states[path]]
    try:
        for done, path in enumerate(outdated, start=1):
            entries.pop(_get_key(path), None)
            try:
                entries[_get_key(path)] = [*states[path], *reader.measure(path)]
            except MediaError as error:
                on_error(path, error)
            if progress:
                progress(done, len(outdated))
    finally:
        if outdated:
            _save(cache_file, entries)
    measured = {path: entries[_get_key(path)] for path in states if _get_key(path) in entries}
    return {path: Extent(int(steps), seconds) for path, (_, _, steps, seconds) in measured.items()}


def _get_key(path: Path) -> str:
    return str(path.absolute())


def _get_state(path: Path) -> Entry:
    with wrap_read_errors(path):
        status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _get_cache_path(paths: Sequence[Path], kind: str) -> Path:
    """Return the path of the cache file, which depends on the common folder of the files."""
    folder = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    cache_folder = os.environ.get("VQVIDEO_CACHE") or os.path.expanduser("~/.cache/vqvideo")
    return Path(cache_folder) / f"{kind}-{digest}-v{_FORMAT_VERSION}.json"


def _load(cache_file: Path) -> dict[str, Entry]:
    try:
        digest, _, text = cache_file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return {}
    entries: dict[str, Entry] = json.loads(text)
    return entries


def _save(cache_file: Path, entries: dict[str, Entry]) -> None:
    text = json.dumps(entries).encode()
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        with output_file(cache_file, suffixes=(".json",), overwrite=True) as temporary:
            temporary.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    except OSError:
        # Training must not fail if the home directory is read-only or full, as on many clusters;
        # the files are then measured again on every start.
        return
