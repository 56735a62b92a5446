"""Check and open input files, and write output files atomically.

Not here: the formats that are read (formats.py), the declared size of a file (declared_size.py),
the contents of a stream (video_index.py, audio.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vqvideo.atomic import replace_file
from vqvideo.media.declared_size import read_declared_size
from vqvideo.media.formats import DEMUXERS

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_PIXELS = 2**30 // 12  # per image or frame: a quarter gibibyte of RGB, Pillow's limit as well

PathLike = str | os.PathLike[str]


class MediaError(ValueError):
    """Error for a file that cannot be read; the message names the file, the cause and a remedy."""


def resolve_input_file(path: PathLike) -> Path:
    """Return the absolute path of a regular file that exists and is not empty.

    Raises:
        FileNotFoundError: the path does not exist.
        MediaError: the path is a folder or a pipe, the file is empty, or its folder is not
            accessible.
    """
    file = Path(path).absolute()
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{file} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{file} cannot be read ({error}); check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{file} is a folder, expected a file; give the path of one file in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        raise MediaError(f"{file} is a pipe or a device, expected a regular file; copy it to one")
    if status.st_size == 0:
        raise MediaError(f"{file} is empty (zero bytes); copy or download it again")
    return file


@contextmanager
def output_file(
    path: PathLike, *, suffixes: Collection[str], overwrite: bool = False, hint: str = ""
) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` if the block succeeds.

    Args:
        path: path of the finished file. Its folder must exist.
        suffixes: the allowed file name suffixes, lower case, with the dot.
        overwrite: replace an existing file.
        hint: advice in the message about a wrong suffix.

    Raises:
        ValueError: wrong suffix.
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
    with replace_file(target, sync=False) as temporary:  # media files can be written again
        yield temporary


@contextmanager
def open_container(file: Path) -> Iterator[InputContainer]:
    """Open a video or audio file for one block; turn read errors inside into `MediaError`."""
    with wrap_ffmpeg_errors(file), open_input(file) as container:
        yield container


def check_complete(file: Path) -> None:
    """Raise `MediaError` if the container declares more bytes than the file has."""
    try:
        declared, actual = read_declared_size(file), file.stat().st_size
    except OSError as error:
        raise _build_disk_error(file, error) from error
    if declared > actual:
        raise MediaError(
            f"{file} is truncated: its container declares {declared} bytes, the file has {actual}; "
            "copy or download it again"
        )


def open_input(file: Path, source: BinaryIO | None = None) -> InputContainer:
    """Open a complete file with PyAV; the caller closes it.

    FFmpeg may use only the demuxers of `vqvideo.media.formats` and open no other file.

    Args:
        file: the file.
        source: bytes to read instead of the file, such as one part of it.
    """
    import av
    from av.error import FFmpegError

    check_complete(file)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(DEMUXERS),
        "max_pixels": str(MAX_PIXELS),
    }
    try:
        return av.open(source or str(file), "r", options=options, metadata_errors="replace")
    except FFmpegError as error:
        if error.errno != errno.EINVAL:
            raise
        raise MediaError(
            f"{file} cannot be read as video or audio: its format is not one of those that are "
            "read (playlists and text never are); convert it, for example to MP4 or WAV"
        ) from error


@contextmanager
def wrap_read_errors(path: Path) -> Iterator[None]:
    """Turn every exception in the block, which reads a file, into a `MediaError` that names it.

    A file may be deleted, shortened or replaced after it was listed, its disk may fail, and
    libraries raise many types for damaged files. None of them should end a long training.
    """
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        names_file = os.fspath(path) in reason
        raise MediaError(reason if names_file else f"{path} cannot be read: {reason}") from error


@contextmanager
def wrap_ffmpeg_errors(file: Path) -> Iterator[None]:
    """Turn errors of FFmpeg and of the disk in the block into a `MediaError` naming the file."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise MediaError(
            f"{file} cannot be read as video or audio ({error.strerror}); "
            "try it in a media player, and convert or download it again if that fails too"
        ) from error
    except OSError as error:
        raise _build_disk_error(file, error) from error


def _build_disk_error(file: Path, error: OSError) -> MediaError:
    """Return the error for a file that has been deleted, is not readable, or whose disk fails."""
    return MediaError(
        f"{file} cannot be read ({error.strerror or error}); "
        "check that it exists, its permissions and its disk"
    )
