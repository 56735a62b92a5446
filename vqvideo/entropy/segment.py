"""What the codes of one item become: a segment of bytes with two checks.

Little-endian:

    4 bytes   CRC-32 of the codes, as int64 in raster order
    2 bytes   CRC-16 (CCITT, from 0xFFFF) of those 4 and of the rest
    the rest  the words of 32 bits of constriction's range coder

The first vouches for the codes that come out, whatever went wrong: damage, another prior, other
conditions, a machine that does not compute as it should. The second finds damaged bytes before
anything is decoded: all flips of one bit, and of others all but one in 65,536. It is short because
a segment is: for a clip of 1,024 codes some 500 bytes.
"""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint32]]
Codes = np.ndarray[Any, np.dtype[np.int64]]

CODES_CHECK, BYTES_CHECK = struct.Struct("<I"), struct.Struct("<H")
CHECKS = CODES_CHECK.size + BYTES_CHECK.size  # bytes


def seal(words: Words, codes: Codes) -> bytes:
    """The segment of an item: the coder's words for it, and its codes for the check."""
    check, rest = CODES_CHECK.pack(_crc_of(codes)), words.astype("<u4").tobytes()
    return check + BYTES_CHECK.pack(crc_hqx(check + rest, 0xFFFF)) + rest


def unseal(segment: bytes, index: int) -> Words:
    """The coder's words in a segment.

    Raises:
        ValueError: it is damaged; the message names it by its index.
    """
    rest = segment[CHECKS:]
    if (
        len(segment) < CHECKS
        or len(rest) % 4
        or BYTES_CHECK.unpack_from(segment, CODES_CHECK.size)[0]
        != crc_hqx(segment[: CODES_CHECK.size] + rest, 0xFFFF)
    ):
        raise ValueError(
            f"segment {index} is damaged: its {len(segment)} bytes are not those that were "
            f"written (CRC-16); take them from a copy of the file"
        )
    return np.frombuffer(rest, "<u4").astype(np.uint32)


def match(segment: bytes, codes: Codes, index: int) -> None:
    """Raise `ValueError`, naming the segment by its index, unless it was made of these codes."""
    if CODES_CHECK.unpack_from(segment)[0] != _crc_of(codes):
        raise ValueError(
            f"segment {index} does not give the codes it was made of (CRC-32): it was compressed "
            f"under another prior, with other conditions or on another grid, or it is damaged"
        )


def _crc_of(codes: Codes) -> int:
    return zlib.crc32(codes.astype("<i8").tobytes())
