"""Find the end of the sound that a container of chunks declares.

WAV (also big-endian, RF64 and BW64), AIFF, W64, CAF and ASF (WMA, WMV) consist of chunks, each
with an identifier and a size; one of them holds the samples. AU has a single size in its header.

Only the samples count. A file that lacks the padding byte after them, or a part of the metadata
behind them, is complete. A program that writes into a pipe cannot go back to fill in a size, and
leaves a placeholder; then the length is unknown, and the sound extends to the end of the file.

Not here: containers that declare their total size (declared_size.py).
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

# SoX writes 0x7f000000 in AIFF, 0x7ffff000 in WAV; LAME, libsndfile and arecord about 0x7fffffff;
# FFmpeg 0xffffffff. Most add the size of their header or round down to whole samples.
_PLACEHOLDERS = (0x7F000000, 0x7FFFFFFF, 0xFFFFFFFF)
_PLACEHOLDER_TOLERANCE = 1 << 16
_MAX_SIZE = 1 << 62  # larger 64-bit sizes are placeholders: -1, or the largest integer
_MAX_CHUNKS = 10_000  # before the samples; the loop must end for a file of zeros

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


class _Layout(NamedTuple):
    """Layout of the chunks of a container; positions and sizes in bytes.

    Attributes:
        start: position of the first chunk.
        data_id: identifier of the chunk with the samples.
        size_format: `struct` format of the size that follows the identifier.
        alignment: chunks start at multiples of this.
        counts_header: whether the size includes the identifier and the size itself.
    """

    start: int
    data_id: bytes
    size_format: str
    alignment: int = 1
    counts_header: bool = False


_LAYOUTS = {
    b"RIFF": _Layout(12, b"data", "<I", alignment=2),
    b"RIFX": _Layout(12, b"data", ">I", alignment=2),
    b"RF64": _Layout(12, b"data", "<I", alignment=2),
    b"BW64": _Layout(12, b"data", "<I", alignment=2),
    b"FORM": _Layout(12, b"SSND", ">I", alignment=2),
    b"caff": _Layout(8, b"data", ">Q"),
    _W64_RIFF[:4]: _Layout(40, _W64_DATA, "<Q", alignment=8, counts_header=True),
    _ASF_HEADER[:4]: _Layout(0, _ASF_DATA, "<Q", counts_header=True),
}
_FORMS = {b"RIFF": {b"WAVE"}, b"RIFX": {b"WAVE"}, b"FORM": {b"AIFF", b"AIFC"}}


def find_sound_end(stream: BinaryIO) -> int:
    """Return the position after the last sample that a container declares.

    Returns:
        The position in bytes, or 0 if this is another container or the length is unknown.
    """
    stream.seek(0)
    head = stream.read(12)
    magic, form = head[:4], head[8:]
    if magic == b".snd" and len(head) == 12:
        offset, size = struct.unpack(">II", head[4:])
        return 0 if is_placeholder(size) else offset + size
    layout = _LAYOUTS.get(magic)
    if layout is None or form not in _FORMS.get(magic, {form}):
        return 0
    return _find_data_end(stream, layout)


def is_placeholder(size: int) -> bool:
    """Return whether a 32-bit size stands for an unknown length."""
    return size == 0 or any(abs(size - each) < _PLACEHOLDER_TOLERANCE for each in _PLACEHOLDERS)


def _find_data_end(stream: BinaryIO, layout: _Layout) -> int:
    position, long_size = layout.start, 0
    header_bytes = len(layout.data_id) + struct.calcsize(layout.size_format)
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        header = stream.read(header_bytes)
        if len(header) < header_bytes:
            return 0
        chunk_id = header[: len(layout.data_id)]
        (size,) = struct.unpack(layout.size_format, header[len(layout.data_id) :])
        if size > _MAX_SIZE:
            return 0
        start = position + header_bytes
        size -= header_bytes if layout.counts_header else 0
        if size < 0:
            return 0
        if chunk_id == b"ds64":  # RF64: the 64-bit sizes of the file and of the samples
            _, long_size = struct.unpack("<QQ", stream.read(16).ljust(16, b"\0"))
        if chunk_id == layout.data_id:
            if long_size and size == 0xFFFFFFFF:
                return start + long_size if long_size < _MAX_SIZE else 0
            is_unknown = size == 0 or (layout.size_format[1] == "I" and is_placeholder(size))
            return 0 if is_unknown else start + size
        position = -(-(start + size) // layout.alignment) * layout.alignment
    return 0
