"""Segment format: the compressed codes of one item, with two checksums.

Little-endian:

    4 bytes   CRC-32 of the codes, as int64 in raster order
    2 bytes   CRC-16 (CCITT, initial value 0xFFFF) of these 4 bytes and the remaining bytes
    the rest  32-bit words of constriction's range coder

The CRC-32 verifies the decoded codes against all causes of error: damage, another prior, other
conditions, a machine that computes incorrectly. The CRC-16 detects damaged bytes before decoding:
all single bit flips, and all but one in 65,536 of other errors. It is short because segments are:
about 500 bytes for a clip of 1,024 codes.
"""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx
from typing import Any

import numpy as np

WordArray = np.ndarray[Any, np.dtype[np.uint32]]
CodeArray = np.ndarray[Any, np.dtype[np.int64]]

CODES_CRC, BYTES_CRC = struct.Struct("<I"), struct.Struct("<H")
HEADER_SIZE = CODES_CRC.size + BYTES_CRC.size  # bytes


def pack_segment(words: WordArray, codes: CodeArray) -> bytes:
    """Return the segment of an item, given its compressed words and its codes."""
    codes_crc, payload = CODES_CRC.pack(_compute_crc(codes)), words.astype("<u4").tobytes()
    return codes_crc + BYTES_CRC.pack(crc_hqx(codes_crc + payload, 0xFFFF)) + payload


def unpack_segment(segment: bytes, index: int) -> WordArray:
    """Return the compressed words of a segment.

    Raises:
        ValueError: the segment is damaged; the message gives its index.
    """
    payload = segment[HEADER_SIZE:]
    if (
        len(segment) < HEADER_SIZE
        or len(payload) % 4
        or BYTES_CRC.unpack_from(segment, CODES_CRC.size)[0]
        != crc_hqx(segment[: CODES_CRC.size] + payload, 0xFFFF)
    ):
        raise ValueError(
            f"segment {index} is damaged: its {len(segment)} bytes fail the CRC-16; restore the "
            f"file from a copy"
        )
    return np.frombuffer(payload, "<u4").astype(np.uint32)


def check_codes_crc(segment: bytes, codes: CodeArray, index: int) -> None:
    """Raise `ValueError`, with the index of the segment, unless the codes match its CRC-32."""
    if CODES_CRC.unpack_from(segment)[0] != _compute_crc(codes):
        raise ValueError(
            f"the codes decoded from segment {index} fail the CRC-32: it was compressed under "
            f"another prior, with other conditions or on another grid, or it is damaged"
        )


def _compute_crc(codes: CodeArray) -> int:
    return zlib.crc32(codes.astype("<i8").tobytes())
