"""Whether a file is all there, as its container tells without decoding.

Most containers say at their head, or block by block, how long they are. That is compared with
the bytes on disk, so that a download that broke off is refused before its first frame is
shown. A FLAC file does not say, and MPEG-TS only that it consists of whole packets.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_EBML_HEAD, _EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ISO_PADDING = {b"ftyp", b"free", b"skip", b"wide", b"uuid", b"sidx", b"styp", b"mfra", b"meta"}
_ISO_CONTENT = {b"moov", b"moof", b"mdat"}
_PNG_HEAD, _TS_SYNC, _TS_PACKET = b"\x89PNG\r\n\x1a\n", b"\x47", 188
_UNKNOWN_RIFF_SIZES = {0, 0xFFFFFFFF}  # a stream that was never closed, or RF64


def declared_bytes(file: Path) -> int:
    """How long a file must at least be for what its container says; 0 where it says nothing."""
    with file.open("rb") as stream:
        return _declared_bytes(stream, file.stat().st_size)


def _declared_bytes(stream: BinaryIO, actual: int) -> int:
    head = stream.read(12)
    if head[:4] == b"RIFF" and len(head) == 12:
        size = struct.unpack("<I", head[4:8])[0]
        return 0 if size in _UNKNOWN_RIFF_SIZES else size + 8
    if head[:4] == _EBML_HEAD:
        return _declared_by_matroska(stream)
    if head[:8] == _PNG_HEAD:
        return _end_of_png(stream, actual)
    if head[:4] == b"GIF8":
        return _end_of_gif(stream, actual)
    if head[:1] == _TS_SYNC and actual > _TS_PACKET:
        stream.seek(_TS_PACKET)
        whole_packets = -(-actual // _TS_PACKET) * _TS_PACKET
        return whole_packets if stream.read(1) == _TS_SYNC else 0
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


def _end_of_png(stream: BinaryIO, actual: int) -> int:
    """End of the chunk IEND; where the file ends before it, one byte more than there are."""
    position = len(_PNG_HEAD)
    while position < actual:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        position += 12 + size  # with the check sum that follows
        if kind == b"IEND":
            return position
    return max(position, actual + 1)


def _end_of_gif(stream: BinaryIO, actual: int) -> int:
    """End of the trailer; where the file ends before it, one byte more than there are."""
    stream.seek(10)
    _skip_gif_colours(stream, fields_after=2)
    while (kind := stream.read(1)) != b";":
        if kind == b"!":  # an extension: its label, then blocks
            stream.seek(1, os.SEEK_CUR)
        elif kind == b",":  # a picture: its place and size, colours, the code size, then blocks
            stream.seek(8, os.SEEK_CUR)
            _skip_gif_colours(stream, fields_after=0)
            stream.seek(1, os.SEEK_CUR)
        else:
            return actual + 1
        while size := stream.read(1):
            stream.seek(size[0], os.SEEK_CUR)
            if size == b"\0":
                break
    return stream.tell()


def _skip_gif_colours(stream: BinaryIO, fields_after: int) -> None:
    """Step over a byte of flags, other fields, and the table of colours the flags announce."""
    flags = int.from_bytes(stream.read(1), "big")
    table = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    stream.seek(fields_after + table, os.SEEK_CUR)
