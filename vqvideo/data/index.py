"""The lengths of many files, measured once and kept in a cache folder.

One file for each data folder holds `{path: [bytes, mtime, steps, seconds]}`. A media file is opened
again only when its size or its time of change is another. The first line is the digest of the
second: what is damaged or half written is measured anew.

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
from vqvideo.media.files import output_file

_FORMAT_VERSION = 1  # to be raised when `Reader.measure` comes to mean something else

Entry = list[float]  # size in bytes, time of change in ns, and the two numbers of `Extent`


def index_files(
    paths: Sequence[Path],
    reader: Reader,
    *,
    refuse: Callable[[Path, MediaError], object],
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, Extent]:
    """How long each file is; one that cannot be read is left out.

    Files that cannot be read are not remembered: they are tried again the next time.

    Args:
        paths: files that exist.
        reader: what measures them.
        refuse: called for each file that cannot be read; what it raises stops the indexing.
        progress: called with (files opened, files to be opened), if any must be.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    store = _store(paths, reader.kind)
    entries = _load(store)
    states = {path: _state(path) for path in paths}
    unknown = [path for path in paths if entries.get(_key(path), [])[:2] != states[path]]
    try:
        for done, path in enumerate(unknown, start=1):
            entries.pop(_key(path), None)
            try:
                entries[_key(path)] = [*states[path], *reader.measure(path)]
            except MediaError as error:
                refuse(path, error)
            if progress:
                progress(done, len(unknown))
    finally:
        if unknown:
            _save(store, entries)
    found = {path: entries[_key(path)] for path in paths if _key(path) in entries}
    return {path: Extent(int(steps), seconds) for path, (_, _, steps, seconds) in found.items()}


def _key(path: Path) -> str:
    return str(path.absolute())


def _state(path: Path) -> Entry:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; check the path") from None
    return [status.st_size, status.st_mtime_ns]


def _store(paths: Sequence[Path], kind: str) -> Path:
    """Where the lengths of these files are kept: by the folder that holds all of them."""
    folder = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    cache = os.environ.get("VQVIDEO_CACHE") or os.path.expanduser("~/.cache/vqvideo")
    return Path(cache) / f"{kind}-{digest}-v{_FORMAT_VERSION}.json"


def _load(store: Path) -> dict[str, Entry]:
    try:
        digest, _, text = store.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return {}
    entries: dict[str, Entry] = json.loads(text)
    return entries


def _save(store: Path, entries: dict[str, Entry]) -> None:
    text = json.dumps(entries).encode()
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with output_file(store, suffixes=(".json",), overwrite=True) as temporary:
            temporary.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    except OSError:
        # All that is lost is time: where the home is read-only or full, as on many clusters,
        # every start measures anew, and training must not fail for that.
        return
