"""A folder of files already decoded: a stretch is a copy out of mapped memory.

For each media file there is one safetensors file, made when it is first read:

    frames             uint8 [n, 3, h, w] of video and images, float32 [n, 1] of sound: all of the
                       file at the reader's size and rate
    "vqvideo_decoded"  in the header, JSON: the source, its size in bytes and time of change, and
                       the reader with its size, fit and rate

A file whose header says something else, for the source has changed, is made anew. Uncompressed
frames are large: an hour at 64x64 and 30 frames/s takes 1.3 GB.

Not here: the media files themselves (readers.py).
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqvideo.data.readers import Reader
from vqvideo.media import MediaError, from_uint8, to_uint8
from vqvideo.media.files import output_file

_FORMAT_VERSION = 1  # to be raised when readers come to give other values
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DecodedFiles:
    """Stretches of files, bit for bit as a reader gives them, out of a folder.

    Several processes may use one folder: files appear whole, and of two that make the same
    one the later wins.

    Args:
        folder: where decoded files are kept; it is made if it does not exist.
        reader: what decodes them.
    """

    def __init__(self, folder: str | Path, reader: Reader) -> None:
        self.folder, self.reader = Path(folder), reader
        self._damaged: set[Path] = set()

    def read(self, path: Path, length: int, start: int, stop: int) -> Tensor:
        """Frames or samples of a file; decodes all of it if that was not done yet.

        Args:
            path: the media file.
            length: frames or samples it has, see `Reader.length`.
            start: the first one wanted.
            stop: the one after the last.

        Raises:
            MediaError: they cannot be decoded.
            OSError: the folder cannot be written to, or the disk is full.
        """
        found = self._stored(path, start, stop)
        if found is None and path not in self._damaged:
            try:
                self.fill(path, length)
                found = self._stored(path, start, stop)
            except MediaError:
                self._damaged.add(path)
        # Of a file that is damaged in one place, the others can be read, as without a cache.
        return self.reader.read(path, start, stop) if found is None else found

    def fill(self, path: Path, length: int) -> None:
        """Decode a file of this length now, unless that was done.

        Raises:
            MediaError: not all of it can be decoded.
            OSError: the folder cannot be written to, or the disk is full.
        """
        if self._stored(path, 0, 0) is not None:
            return
        about = self._about(path)
        pieces = (self._pack(piece) for piece in self.reader.pieces(path, length))
        first = next(pieces)
        header = _header(about, (length, *first.shape[1:]), first.dtype)
        num_bytes = len(header) + first[0].nbytes * length
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if shutil.disk_usage(self.folder).free < num_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with output_file(self._file(path), suffixes=(".safetensors",), overwrite=True) as name:
                blocks = (block.numpy().tobytes() for block in itertools.chain([first], pieces))
                _write(name, itertools.chain([header], blocks))
                assert name.stat().st_size == num_bytes, f"{path} gave another length than {length}"
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise OSError(
                error.errno,
                f"{path} decoded takes {num_bytes / 1e6:.1f} MB, which the cache has no room for; "
                "make some, or do without a cache",
                str(self.folder),
            ) from error

    def _stored(self, path: Path, start: int, stop: int) -> Tensor | None:
        """A stretch, if its file is there, whole and up to date."""
        try:
            with safe_open(self._file(path), framework="pt") as file:
                if (file.metadata() or {}).get("vqvideo_decoded") != self._about(path):
                    return None
                frames: Tensor = file.get_slice("frames")[start:stop]
        except (FileNotFoundError, SafetensorError):
            return None
        frames = frames.movedim(0, 1).contiguous()
        return from_uint8(frames) if self.reader.is_bytes else frames

    def _pack(self, piece: Tensor) -> Tensor:
        """`[c, t, ...]` in [-1, 1] as it is stored."""
        stored = to_uint8(piece) if self.reader.is_bytes else piece
        return stored.movedim(1, 0).contiguous()

    def _file(self, path: Path) -> Path:
        """One for each source and reader: a source that changed replaces its old file."""
        name = f"{path.absolute()}\n{self.reader}"
        return self.folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.safetensors"

    def _about(self, path: Path) -> str:
        status = path.stat()
        about = {
            "format_version": _FORMAT_VERSION,
            "source": str(path.absolute()),
            "num_bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "reader": repr(self.reader),
        }
        return json.dumps(about)


def _write(name: Path, blocks: Iterable[bytes]) -> None:
    # Not into mapped memory: a disk that fills up would end the process there.
    with name.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _header(about: str, shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """Of a safetensors file with `frames` alone; `save_file` would want all of them in memory."""
    code = {torch.uint8: "U8", torch.float32: "F32"}[dtype]
    stop = math.prod(shape) * dtype.itemsize
    entry = {"dtype": code, "shape": shape, "data_offsets": [0, stop]}
    text = json.dumps({"__metadata__": {"vqvideo_decoded": about}, "frames": entry}).encode()
    text += b" " * (-len(text) % 8)  # the frames begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text
