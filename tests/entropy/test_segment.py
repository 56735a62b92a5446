"""Segments: what was put in comes out, and damage is named."""

import numpy as np
import pytest

from vqvideo.entropy.segment import check_codes_crc, pack_segment, unpack_segment

WORDS = np.array([7, 2**32 - 1, 0, 123456789], dtype=np.uint32)
CODES = np.arange(24).reshape(2, 3, 4)


def test_words_and_codes_go_in_and_words_come_out():
    segment = pack_segment(WORDS, CODES)
    assert len(segment) == 6 + 4 * 4
    assert unpack_segment(segment, 0).tolist() == WORDS.tolist()
    assert segment[6:10] == b"\x07\0\0\0"
    check_codes_crc(segment, CODES, 0)


def test_every_flip_of_a_bit_is_found():
    segment = pack_segment(WORDS, CODES)
    for bit in range(8 * len(segment)):
        damaged = bytearray(segment)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"segment 5 is damaged: its 22 bytes"):
            unpack_segment(bytes(damaged), 5)


def test_every_truncation_is_found():
    segment = pack_segment(WORDS, CODES)
    for length in range(len(segment)):
        with pytest.raises(ValueError, match=rf"segment 2 is damaged: its {length} bytes"):
            unpack_segment(segment[:length], 2)


def test_other_codes_than_the_segment_was_made_of_are_refused():
    other = CODES.copy()
    other[1, 2, 3] += 1
    with pytest.raises(ValueError, match="the codes decoded from segment 3 fail the CRC-32"):
        check_codes_crc(pack_segment(WORDS, CODES), other, 3)
