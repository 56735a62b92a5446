"""Pack codes into bits, with a fixed number of bits per code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_CHUNK_SIZE = (
    2**16
)  # codes packed at a time; a multiple of 8, so that chunks start at byte boundaries


def count_bits_per_code(codebook_size: int) -> int:
    """Return the minimum number of bits per code: ceil(log2 K), at least 1.

    >>> count_bits_per_code(1024), count_bits_per_code(1025)
    (10, 11)
    """
    return max(1, (codebook_size - 1).bit_length())


def pack_codes(codes: Tensor, bits: int) -> bytes:
    """Pack codes of any shape into `bits` bits each, lowest first, in raster order.

    >>> pack_codes(torch.tensor([1, 2, 3]), bits=2)
    b'9'
    """
    flat = codes.reshape(-1).numpy()
    packed = []
    for start in range(0, len(flat), _CHUNK_SIZE):
        chunk = flat[start : start + _CHUNK_SIZE]
        code_bits = np.stack([(chunk >> bit & 1).astype(np.uint8) for bit in range(bits)], axis=1)
        packed.append(np.packbits(code_bits, bitorder="little").tobytes())
    return b"".join(packed)


def unpack_codes(data: bytes, bits: int, bit_offset: int, num_codes: int) -> Tensor:
    """Unpack `num_codes` codes, starting at bit `bit_offset`, to int64 `[num_codes]`.

    >>> unpack_codes(b"9", bits=2, bit_offset=2, num_codes=2)
    tensor([2, 3])
    """
    all_bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    code_bits = all_bits[bit_offset : bit_offset + num_codes * bits].reshape(num_codes, bits)
    codes = np.zeros(num_codes, np.int64)
    for bit in range(bits):
        codes |= code_bits[:, bit].astype(np.int64) << bit
    return torch.from_numpy(codes)
