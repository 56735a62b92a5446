"""Codes as bits: each of a fixed number, one after the other."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_AT_ONCE = 2**16  # codes packed at a time: a multiple of 8, so that each time begins with a byte


def bits_per_code(codebook_size: int) -> int:
    """The fewest bits that can hold any code, ceil(log2 K); one at least.

    >>> bits_per_code(1024), bits_per_code(1025)
    (10, 11)
    """
    return max(1, math.ceil(math.log2(codebook_size)))


def pack(codes: Tensor, bits: int) -> bytes:
    """Codes of any shape as `bits` bits each, lowest first, in raster order.

    >>> pack(torch.tensor([1, 2, 3]), bits=2)
    b'9'
    """
    flat = codes.reshape(-1).numpy()
    parts = []
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        each = np.stack([(part >> bit & 1).astype(np.uint8) for bit in range(bits)], axis=1)
        parts.append(np.packbits(each, bitorder="little").tobytes())
    return b"".join(parts)


def unpack(data: bytes, bits: int, first: int, number: int) -> Tensor:
    """`number` codes int64 `[number]` of packed ones, from the one that begins at bit `first` on.

    >>> unpack(b"9", bits=2, first=2, number=2)
    tensor([2, 3])
    """
    every = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    each = every[first : first + number * bits].reshape(number, bits)
    codes = np.zeros(number, np.int64)
    for bit in range(bits):
        codes |= each[:, bit].astype(np.int64) << bit
    return torch.from_numpy(codes)
