"""Paths in and out: what makes a file readable, and how one is written whole or not at all.

A container says at its head how long it is. `check_complete` compares that with the
bytes on disk, so that a download that broke off is refused before its first frame is
shown. MPEG-TS, GIF and FLAC declare no length in bytes and pass.

Not here: what is inside a stream (index.py, audio.py).
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from av.container import InputContainer

PathLike = str | os.PathLike[str]

_EBML_HEAD, _EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ISO_PADDING = {b"ftyp", b"free", b"skip", b"wide", b"uuid", b"sidx", b"styp", b"mfra", b"meta"}
_ISO_CONTENT = {b"moov", b"moof", b"mdat"}
_UNKNOWN_RIFF_SIZES = {0, 0xFFFFFFFF}  # a stream that was never closed, or RF64


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
    path: PathLike, *, suffixes: Collection[str], overwrite: bool = False
) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to it when the block ends without an error.

    Args:
        path: where the finished file shall stand. Its folder must exist.
        suffixes: the file name endings that are allowed, lower case, with the dot.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another ending.
        FileExistsError: the file exists and `overwrite` is false.
        FileNotFoundError: the folder does not exist.
    """
    target = Path(path).absolute()
    suffix = target.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{target} must end in {' or '.join(suffixes)}, got {suffix!r}")
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
    """Open a video or sound file with PyAV; every failure inside becomes a `MediaError`.

    A file that is a play list may name other files, but never the network.
    """
    import av

    check_complete(file)
    try:
        with av.open(str(file), options={"protocol_whitelist": "file"}) as container:
            yield container
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{file} cannot be read as video or sound ({error.strerror}); "
            "play it in a media player, and convert or download it again if that fails too"
        ) from error


def check_complete(file: Path) -> None:
    """Raise `MediaError` when the container declares more bytes than the file has."""
    actual = file.stat().st_size
    with file.open("rb") as stream:
        declared = _declared_bytes(stream, actual)
    if declared > actual:
        raise MediaError(
            f"{file} is cut off: its container declares {declared} bytes, the file has {actual}; "
            "copy or download it again"
        )


def _declared_bytes(stream: BinaryIO, actual: int) -> int:
    """Length the head of the file speaks of, in bytes; 0 where it says nothing."""
    head = stream.read(12)
    if head[:4] == b"RIFF" and len(head) == 12:
        size = struct.unpack("<I", head[4:8])[0]
        return 0 if size in _UNKNOWN_RIFF_SIZES else size + 8
    if head[:4] == _EBML_HEAD:
        return _declared_by_matroska(stream)
    if head[4:8] in _ISO_PADDING | _ISO_CONTENT:
        return _declared_by_iso_boxes(stream, actual)
    return 0


def _declared_by_matroska(stream: BinaryIO) -> int:
    """End of the Matroska segment, the element that holds everything after the head."""
    stream.seek(4)
    head_size = _ebml_size(stream)
    if head_size is None:
        return 0
    stream.seek(head_size, os.SEEK_CUR)
    if stream.read(4) != _EBML_SEGMENT:
        return 0
    size = _ebml_size(stream)
    return 0 if size is None else stream.tell() + size


def _ebml_size(stream: BinaryIO) -> int | None:
    """An EBML length: leading zero bits count the bytes that follow; all ones is 'unknown'."""
    first = stream.read(1)
    if not first or first[0] == 0:
        return None
    following = 8 - first[0].bit_length()
    marker = 1 << 7 * (following + 1)
    value = int.from_bytes(first + stream.read(following), "big") - marker
    return None if value == marker - 1 else value


def _declared_by_iso_boxes(stream: BinaryIO, actual: int) -> int:
    """End of the last box of an MP4 or MOV file that matters; stops at what it does not know."""
    position, declared = 0, 0
    while position + 8 <= actual:
        stream.seek(position)
        size, kind = struct.unpack(">I4s", stream.read(8))
        if size == 1:  # the true size follows in 64 bits
            long_size = stream.read(8)
            size = int.from_bytes(long_size, "big") if len(long_size) == 8 else 0
        if kind not in _ISO_PADDING | _ISO_CONTENT or size < 8:  # 0: up to the end of the file
            break
        position += size
        if kind in _ISO_CONTENT:
            declared = position
    return declared
