"""Check relative file names that come from another machine before files are written under them.

A name must stay below its folder on POSIX and on Windows alike, whichever runs here. What a system
can store below the folder depends on the system: "10:00.mp4" is a file on Linux, and a hidden
stream of the file "10" on Windows.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as shorten

MAX_PATH_LENGTH = 4096  # bytes of a relative path
MAX_COMPONENT_LENGTH = 255  # bytes on POSIX, UTF-16 code units on Windows
_WINDOWS_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *", re.I)
_WINDOWS_INVALID = re.compile(r'[\x00-\x1f<>:"|?*\\]')


def check_file_names(folder: Path, names: Sequence[str]) -> None:
    """Check that files with these names can be written below a folder, each beside the others.

    Args:
        folder: the folder; it need not exist.
        names: paths relative to it, with `/`.

    Raises:
        ValueError: a name is invalid, leads out of the folder, is the name of two files, or of a
            file and a folder. On a file system that ignores case, names that differ only by case
            are equal.
    """
    files: set[str] = set()
    names_by_key: dict[str, str] = {}  # keys are equal for names that differ only by case
    different_case = ""
    for name in names:
        check_file_name(name)
        path = str(PurePosixPath(name))  # "./x" is "x"
        if path in files:
            raise ValueError(f"{_quote(path)} is the path of two files")
        files.add(path)
        other = names_by_key.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            different_case = f"{_quote(path)} is the path of two files (also {_quote(other)})"
    if different_case and not is_case_sensitive(folder):
        raise ValueError(different_case)
    for path in files:
        for parent in PurePosixPath(path).parents:
            if str(parent) in files:
                raise ValueError(f"{_quote(str(parent))} is the path of a file and of a folder")


def check_file_name(name: str, *, is_windows: bool = os.name == "nt") -> None:
    """Raise `ValueError` unless a name is a relative path that can be written below a folder.

    Args:
        name: the path, with `/`.
        is_windows: whether to apply the rules of Windows for the parts of a path too.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts):
        raise ValueError(f"the path {_quote(name)} leads out of the folder")
    try:
        encoded = name.encode("utf-8", "surrogateescape")  # as os.fsencode on POSIX
    except UnicodeEncodeError as cause:
        raise ValueError(f"the path {_quote(name)} is not valid Unicode") from cause
    if not posix.name or "\0" in name or len(encoded) > MAX_PATH_LENGTH:
        raise ValueError(
            f"a path must have 1 to {MAX_PATH_LENGTH} bytes, none of them 0, got {_quote(name)}"
        )
    for part in posix.parts:
        length = len(part.encode("utf-16-le", "surrogatepass")) // 2
        if not is_windows:
            length = len(part.encode("utf-8", "surrogateescape"))
        if length > MAX_COMPONENT_LENGTH:
            raise ValueError(
                f"each part of a path must have at most {MAX_COMPONENT_LENGTH} bytes, got "
                f"{_quote(name)}"
            )
        is_reserved = _WINDOWS_RESERVED.fullmatch(part.partition(".")[0])
        if is_windows and (is_reserved or part[-1] in ". " or _WINDOWS_INVALID.search(part)):
            raise ValueError(f"Windows cannot store a file under the path {_quote(name)}")


def is_case_sensitive(folder: Path) -> bool:
    """Return whether names that differ only by case are different files in a folder.

    It writes an empty file for a moment, into the nearest parent that exists.
    """
    while not folder.is_dir():
        folder = folder.parent
    with tempfile.NamedTemporaryFile(prefix=".CASE", dir=folder) as file:
        path = Path(file.name)
        return not path.with_name(path.name.lower()).exists()


def _quote(name: str) -> str:
    return shorten(name) if len(name) > MAX_COMPONENT_LENGTH else repr(name)
