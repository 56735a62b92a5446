"""Paths in and out: what makes a file readable, and how one is written whole or not at all.

Not here: whether the file is all there (length.py), what is inside a stream (index.py,
audio.py).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vqvideo.media.length import declared_bytes

if TYPE_CHECKING:
    from av.container import InputContainer

PathLike = str | os.PathLike[str]


class MediaError(ValueError):
    """A file that cannot be read as what was asked for: which file, why, what to do."""


def input_file(path: PathLike) -> Path:
    """The absolute path of a file that exists and is not empty.

    Raises:
        FileNotFoundError: nothing has this name.
        MediaError: it is a folder, or holds no bytes.
    """
    file = Path(path).absolute()
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; check the path")
    if not file.is_file():
        raise MediaError(f"{file} is a folder, not a file; name one file inside it")
    if file.stat().st_size == 0:
        raise MediaError(f"{file} is empty (zero bytes); copy or download it again")
    return file


@contextmanager
def output_file(
    path: PathLike, *, suffixes: Collection[str], overwrite: bool = False, hint: str = ""
) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to it when the block ends without an error.

    Args:
        path: where the finished file shall stand. Its folder must exist.
        suffixes: the file name endings that are allowed, lower case, with the dot.
        overwrite: replace a file that exists.
        hint: what to do about another ending.

    Raises:
        ValueError: another ending.
        FileExistsError: the file exists and `overwrite` is false.
        FileNotFoundError: the folder does not exist.
    """
    target = Path(path).absolute()
    suffix = target.suffix.lower()
    if suffix not in suffixes:
        message = f"{target} must end in {' or '.join(suffixes)}, got {suffix!r}"
        raise ValueError(f"{message}; {hint}" if hint else message)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"folder {target.parent} does not exist; create it first")
    temporary = target.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_container(file: Path) -> Iterator[InputContainer]:
    """Open a video or sound file for one block; every failure inside becomes a `MediaError`."""
    with naming_errors(file), open_input(file) as container:
        yield container


def check_complete(file: Path) -> None:
    """Raise `MediaError` when the container says that more bytes should follow."""
    declared, actual = declared_bytes(file), file.stat().st_size
    if declared > actual:
        raise MediaError(
            f"{file} is cut off: its container declares {declared} bytes, the file has {actual}; "
            "copy or download it again"
        )


def open_input(file: Path) -> InputContainer:
    """Open a file that is complete with PyAV, to be closed by the caller.

    A file that is a play list may name other files, but never the network.
    """
    import av

    check_complete(file)
    return av.open(str(file), options={"protocol_whitelist": "file"}, metadata_errors="replace")


@contextmanager
def naming_errors(file: Path) -> Iterator[None]:
    """Turn what FFmpeg says inside the block into a `MediaError` that names the file."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise MediaError(
            f"{file} cannot be read as video or sound ({error.strerror}); "
            "play it in a media player, and convert or download it again if that fails too"
        ) from error
