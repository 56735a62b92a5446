"""Record which files a command wrote to a folder, so that it replaces no other file unasked.

Neither the existence nor the age of a file shows who wrote it: a folder of recordings has the same
names as the files decoded from them. A file counts as written by the command only if the record in
the folder has its name and the SHA-256 of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqvideo.atomic import replace_file, write_text

FORMAT_VERSION = 1

_ENTRY_KEYS = {"file", "sha256", "recipe"}


class OutputRecord:
    """The record of the files of one command in a folder: JSON lines, one per file.

    A line is appended before its file gets its name, so a killed command recognizes its files. Any
    number of processes may append.

    Args:
        folder: output folder of the command.
        command: name of the command; the record is `folder/{command}.jsonl`.

    Raises:
        ValueError: a file of that name is not a record of this command.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.path, self._folder = folder / f"{command}.jsonl", folder
        self._header = {"record_of": f"vqvideo {command}", "format_version": FORMAT_VERSION}
        self._hashes = self._read()

    def needs_write(self, file: Path, recipe: str, overwrite: bool) -> bool:
        """Return whether a file is missing or to be replaced.

        Args:
            file: a path in the folder.
            recipe: fingerprint of everything that determines the content; a file that was written
                from the same recipe is kept.
            overwrite: replace the file whatever it is.

        Raises:
            FileExistsError: the file exists and this command did not write it.
        """
        if overwrite or not os.path.lexists(file):
            return True
        recipes = self._hashes.get(self._get_name(file), {})
        written_from = recipes.get(_hash_file(file)) if recipes and file.is_file() else None
        if written_from is None:
            raise FileExistsError(
                f"{file} exists, and {self.path} does not record its content as written by this "
                f"command; give another folder, or --overwrite to replace it"
            )
        return written_from != recipe

    def start(self) -> None:
        """Create the folder and an empty record, or end a line that a crash has cut."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            write_text(self.path, json.dumps(self._header) + "\n")
        elif not self.path.read_bytes().endswith(b"\n"):
            self._append("\n")

    @contextmanager
    def replace(self, file: Path, recipe: str) -> Iterator[Path]:
        """Yield a temporary path beside `file`; then record it and rename it to `file`.

        Args:
            file: a path in the folder; parent folders are created.
            recipe: see `needs_write`.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(file, sync=False) as temporary:
            yield temporary
            entry = {"file": self._get_name(file), "sha256": _hash_file(temporary)}
            self._append(json.dumps({**entry, "recipe": recipe}) + "\n")

    def _get_name(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()

    def _append(self, line: str) -> None:
        with self.path.open("ab") as stream:  # one write: lines of several processes do not mix
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self) -> dict[str, dict[str, str]]:
        """Return the recipe for each name and hash of the record."""
        if not os.path.lexists(self.path):
            return {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        if not lines or _parse_line(lines[0]) != self._header:
            raise ValueError(
                f"{self.path} is not a record of this command, which would write one there; give "
                f"another folder, or move the file"
            )
        hashes: dict[str, dict[str, str]] = {}
        for entry in map(_parse_line, lines[1:]):  # a crash may have cut a line
            if entry.keys() == _ENTRY_KEYS and all(isinstance(v, str) for v in entry.values()):
                hashes.setdefault(entry["file"], {})[entry["sha256"]] = entry["recipe"]
        return hashes


def _parse_line(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
