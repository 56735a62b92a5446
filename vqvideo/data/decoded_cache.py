"""Cache decoded files in a folder, so that reading a window is a copy from mapped memory.

For each media file there is one safetensors file, written when the media file is first read:

    frames             uint8 [n, 3, h, w] for video and images, float32 [n, 1] for audio: the whole
                       file at the reader's size and rate
    "vqvideo_decoded"  in the header, JSON: the source, its size in bytes and modification time, and
                       the reader with its size, fit and rate

If the header does not match, because the source has changed, the file is written again.
Uncompressed frames are large: an hour at 64x64 and 30 frames/s takes 1.3 GB.

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
from vqvideo.media.files import output_file, wrap_read_errors

_FORMAT_VERSION = 1  # increase it when readers return other values
_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DecodedCache:
    """Cache of decoded files that returns the same values as its reader, bit for bit.

    Several processes may use one folder: files are written atomically, and if two processes write
    the same file the later one wins.

    Args:
        folder: folder of the decoded files; created if it does not exist.
        reader: the reader that decodes the files.
    """

    def __init__(self, folder: str | Path, reader: Reader) -> None:
        self.folder, self.reader = Path(folder), reader
        self._damaged: set[Path] = set()

    def read(self, path: Path, length: int, start: int, stop: int) -> Tensor:
        """Read frames or samples of a file; decode the whole file if it is not in the cache.

        Args:
            path: the media file.
            length: frames or samples in it, see `Reader.compute_length`.
            start: the first frame or sample to read.
            stop: the one after the last.

        Raises:
            MediaError: the frames or samples cannot be decoded.
            OSError: the folder cannot be written, or the disk is full.
        """
        x = self._load(path, start, stop)
        if x is None and path not in self._damaged:
            try:
                self.fill(path, length)
                x = self._load(path, start, stop)
            except MediaError:
                pass
            if x is None:
                self._damaged.add(path)
        # If a file is damaged in one place, the rest can be read, as without a cache.
        return self.reader.read(path, start, stop) if x is None else x

    def fill(self, path: Path, length: int) -> None:
        """Decode a file of this length into the cache, unless it is there already.

        Raises:
            MediaError: a part of the file cannot be decoded.
            OSError: the folder cannot be written, or the disk is full.
        """
        if length == 0 or self._load(path, 0, 0) is not None:
            return
        metadata = self._build_metadata(path)
        chunks = (self._to_cache_format(chunk) for chunk in self.reader.iter_chunks(path, length))
        first = next(chunks)
        header = _build_header(metadata, (length, *first.shape[1:]), first.dtype)
        num_bytes = len(header) + first[0].nbytes * length
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if shutil.disk_usage(self.folder).free < num_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with output_file(
                self._get_cache_path(path), suffixes=(".safetensors",), overwrite=True
            ) as temporary:
                blocks = (block.numpy().tobytes() for block in itertools.chain([first], chunks))
                _write(temporary, itertools.chain([header], blocks))
                assert temporary.stat().st_size == num_bytes, f"{path}: expected length {length}"
        except OSError as error:
            if error.errno not in _DISK_FULL_ERRNOS:
                raise
            raise OSError(
                error.errno,
                f"{path} takes {num_bytes / 1e6:.1f} MB when decoded, more than the free space of "
                "the cache; free some space, or disable the cache",
                str(self.folder),
            ) from error

    def _load(self, path: Path, start: int, stop: int) -> Tensor | None:
        """Load frames or samples; return None if they are missing, damaged or outdated."""
        try:
            with safe_open(self._get_cache_path(path), framework="pt") as file:
                if (file.metadata() or {}).get("vqvideo_decoded") != self._build_metadata(path):
                    return None
                frames: Tensor = file.get_slice("frames")[start:stop]
        except (OSError, SafetensorError):  # of the cached file; the source raises MediaError
            return None
        if len(frames) != stop - start:
            return None
        frames = frames.movedim(0, 1).contiguous()
        return from_uint8(frames) if self.reader.is_uint8 else frames

    def _to_cache_format(self, chunk: Tensor) -> Tensor:
        """Convert `[c, t, ...]` in [-1, 1] to the stored `[t, c, ...]`."""
        stored = to_uint8(chunk) if self.reader.is_uint8 else chunk
        return stored.movedim(1, 0).contiguous()

    def _get_cache_path(self, path: Path) -> Path:
        """Return the path for a source and reader; a changed source overwrites its old file."""
        name = f"{path.absolute()}\n{self.reader}"
        return self.folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.safetensors"

    def _build_metadata(self, path: Path) -> str:
        with wrap_read_errors(path):
            status = path.stat()
        metadata = {
            "format_version": _FORMAT_VERSION,
            "source": str(path.absolute()),
            "num_bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "reader": repr(self.reader),
        }
        return json.dumps(metadata)


def _write(path: Path, buffers: Iterable[bytes]) -> None:
    # Not through mapped memory: a full disk would kill the process there.
    with path.open("wb") as file:
        for block in buffers:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _build_header(metadata: str, shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """Build the header of a safetensors file with one tensor, `frames`.

    `safetensors.torch.save_file` would need all frames in memory.
    """
    code = {torch.uint8: "U8", torch.float32: "F32"}[dtype]
    stop = math.prod(shape) * dtype.itemsize
    entry = {"dtype": code, "shape": shape, "data_offsets": [0, stop]}
    text = json.dumps({"__metadata__": {"vqvideo_decoded": metadata}, "frames": entry}).encode()
    text += b" " * (-len(text) % 8)  # the tensor data must start at a multiple of 8
    return struct.pack("<Q", len(text)) + text
