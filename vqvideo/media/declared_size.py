"""Read the size that a container declares, to detect a truncated file without decoding.

Most containers declare their size in the header, or block by block. It is compared with the
size on disk, so that an incomplete download is rejected before its first frame is returned.
FLAC declares no size; MPEG-TS and Ogg only consist of whole packets or pages.

Not here: the size of the samples in containers of sound (chunk_sizes.py).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from vqvideo.media.chunk_sizes import find_sound_end, is_placeholder

_EBML_MAGIC, _EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ISO_PADDING = {b"ftyp", b"free", b"skip", b"wide", b"uuid", b"sidx", b"styp", b"mfra", b"meta"}
_ISO_CONTENT = {b"moov", b"moof", b"mdat"}
_PNG_SIGNATURE, _TS_SYNC_BYTE, _TS_PACKET_SIZE = b"\x89PNG\r\n\x1a\n", b"\x47", 188
_OGG_MAGIC, _OGG_HEADER_SIZE, _OGG_MAX_PAGE_SIZE = b"OggS", 27, 27 + 255 + 255 * 255


def read_declared_size(file: Path) -> int:
    """Return the minimum size in bytes that a container declares, or 0 if it declares none."""
    with file.open("rb") as stream:
        return _parse_declared_size(stream, file.stat().st_size)


def _parse_declared_size(stream: BinaryIO, file_size: int) -> int:
    sound_end = find_sound_end(stream)
    if sound_end:
        return sound_end
    stream.seek(0)
    head = stream.read(12)
    if head[:4] == b"RIFF":
        return _parse_riff_size(stream, file_size)
    if head[:4] == _EBML_MAGIC:
        return _parse_matroska_size(stream)
    if head[:4] == _OGG_MAGIC:
        return _find_ogg_end(stream, file_size)
    if head[:8] == _PNG_SIGNATURE:
        return _find_png_end(stream, file_size)
    if head[:4] == b"GIF8":
        return _find_gif_end(stream, file_size)
    if head[:1] == _TS_SYNC_BYTE and file_size > _TS_PACKET_SIZE:
        stream.seek(_TS_PACKET_SIZE)
        whole_packets = -(-file_size // _TS_PACKET_SIZE) * _TS_PACKET_SIZE
        return whole_packets if stream.read(1) == _TS_SYNC_BYTE else 0
    if head[4:8] in _ISO_PADDING | _ISO_CONTENT:
        return _parse_iso_size(stream, file_size)
    return 0


def _parse_riff_size(stream: BinaryIO, file_size: int) -> int:
    """Return the end of the last RIFF chunk; AVI files over 1 GB have several.

    The padding byte after the last chunk may be missing.
    """
    end = 0
    while True:
        stream.seek(end)
        head = stream.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or (end and head[8:] != b"AVIX"):
            return 0 if end == file_size + 1 else end
        size = int.from_bytes(head[4:8], "little")
        if is_placeholder(size):
            return end
        end += 8 + size + size % 2


def _find_ogg_end(stream: BinaryIO, file_size: int) -> int:
    """Return the end of the last page, or more than `file_size` if its header is incomplete."""
    stream.seek(max(0, file_size - _OGG_MAX_PAGE_SIZE))
    tail = stream.read()
    start = tail.rfind(_OGG_MAGIC + b"\0")
    if start < 0:  # something else follows the last page
        return 0
    page = tail[start:]
    num_segments = page[_OGG_HEADER_SIZE - 1] if len(page) >= _OGG_HEADER_SIZE else 255
    sizes = page[_OGG_HEADER_SIZE : _OGG_HEADER_SIZE + num_segments]
    if len(sizes) < num_segments:
        return file_size + 1
    return file_size - len(page) + _OGG_HEADER_SIZE + num_segments + sum(sizes)


def _parse_matroska_size(stream: BinaryIO) -> int:
    """Return the end of the Matroska segment, which holds everything after the header."""
    stream.seek(4)
    head_size = _read_ebml_size(stream)
    if head_size is None:
        return 0
    stream.seek(head_size, os.SEEK_CUR)
    if stream.read(4) != _EBML_SEGMENT:
        return 0
    size = _read_ebml_size(stream)
    return 0 if size is None else stream.tell() + size


def _read_ebml_size(stream: BinaryIO) -> int | None:
    """Read an EBML length; None if it is unknown (all bits are one) or missing.

    The number of leading zero bits is the number of bytes that follow.
    """
    first = stream.read(1)
    if not first or first[0] == 0:
        return None
    following = 8 - first[0].bit_length()
    marker = 1 << 7 * (following + 1)
    value = int.from_bytes(first + stream.read(following), "big") - marker
    return None if value == marker - 1 else value


def _parse_iso_size(stream: BinaryIO, file_size: int) -> int:
    """Return the end of the last content box of an MP4 or MOV file; stop at an unknown box."""
    position, declared = 0, 0
    while position + 8 <= file_size:
        stream.seek(position)
        size, kind = struct.unpack(">I4s", stream.read(8))
        if size == 1:  # a 64-bit size follows
            long_size = stream.read(8)
            size = int.from_bytes(long_size, "big") if len(long_size) == 8 else 0
        if (
            kind not in _ISO_PADDING | _ISO_CONTENT or size < 8
        ):  # 0: the box extends to the end of the file
            break
        position += size
        if kind in _ISO_CONTENT:
            declared = position
    return declared


def _find_png_end(stream: BinaryIO, file_size: int) -> int:
    """Return the end of the IEND chunk, or more than `file_size` if the chunk is missing."""
    position = len(_PNG_SIGNATURE)
    while position < file_size:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        position += 12 + size  # with the checksum that follows
        if kind == b"IEND":
            return position
    return max(position, file_size + 1)


def _find_gif_end(stream: BinaryIO, file_size: int) -> int:
    """Return the end of the trailer, or more than `file_size` if the trailer is missing."""
    stream.seek(10)
    _skip_gif_color_table(stream, num_bytes_after_flags=2)
    while (kind := stream.read(1)) != b";":
        if kind == b"!":  # an extension: its label, then blocks
            stream.seek(1, os.SEEK_CUR)
        elif kind == b",":  # an image: position and size, colours, code size, then blocks
            stream.seek(8, os.SEEK_CUR)
            _skip_gif_color_table(stream, num_bytes_after_flags=0)
            stream.seek(1, os.SEEK_CUR)
        else:
            return file_size + 1
        while size := stream.read(1):
            stream.seek(size[0], os.SEEK_CUR)
            if size == b"\0":
                break
    return stream.tell()


def _skip_gif_color_table(stream: BinaryIO, num_bytes_after_flags: int) -> None:
    """Skip a byte of flags, other fields, and the colour table that the flags declare."""
    flags = int.from_bytes(stream.read(1), "big")
    table = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    stream.seek(num_bytes_after_flags + table, os.SEEK_CUR)
