"""Check and open input files, and write output files atomically.

Not here: the declared size of a file (declared_size.py), the contents of a stream
(video_index.py, audio.py).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vqvideo.media.declared_size import read_declared_size

if TYPE_CHECKING:
    from av.container import InputContainer

PathLike = str | os.PathLike[str]


class MediaError(ValueError):
    """Error for a file that cannot be read; the message names the file, the cause and a remedy."""


def resolve_input_file(path: PathLike) -> Path:
    """Return the absolute path of a file that exists and is not empty.

    Raises:
        FileNotFoundError: the path does not exist.
        MediaError: the path is a folder, or the file is empty.
    """
    file = Path(path).absolute()
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; check the path")
    if not file.is_file():
        raise MediaError(f"{file} is a folder, expected a file; give the path of one file in it")
    if file.stat().st_size == 0:
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
    temporary = target.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_container(file: Path) -> Iterator[InputContainer]:
    """Open a video or audio file for one block; turn FFmpeg errors inside into `MediaError`."""
    with wrap_ffmpeg_errors(file), open_input(file) as container:
        yield container


def check_complete(file: Path) -> None:
    """Raise `MediaError` if the container declares more bytes than the file has."""
    declared, actual = read_declared_size(file), file.stat().st_size
    if declared > actual:
        raise MediaError(
            f"{file} is truncated: its container declares {declared} bytes, the file has {actual}; "
            "copy or download it again"
        )


def open_input(file: Path) -> InputContainer:
    """Open a complete file with PyAV; the caller closes it.

    A playlist may refer to other files, but not to the network.
    """
    import av

    from vqvideo.media.pixels import MAX_PIXELS  # which imports this module

    check_complete(file)
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    return av.open(str(file), options=options, metadata_errors="replace")


@contextmanager
def wrap_ffmpeg_errors(file: Path) -> Iterator[None]:
    """Turn FFmpeg errors inside the block into a `MediaError` that names the file."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise MediaError(
            f"{file} cannot be read as video or audio ({error.strerror}); "
            "try it in a media player, and convert or download it again if that fails too"
        ) from error
