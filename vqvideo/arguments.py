"""Checks of the arguments of public functions; each error names the argument."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

NUM_SEEDS = 2**64


def check_count(name: str, value: int) -> None:
    """Raise `ValueError` unless a number of items is an integer of at least 1."""
    if _to_int(name, value) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_seed(seed: int) -> int:
    """Return a seed as a Python integer.

    Raises:
        ValueError: it is not an integer from -2**63 to 2**64 - 1. As for `torch.manual_seed`, a
            negative seed is the same as seed + 2**64.
    """
    number = _to_int("seed", seed)
    if not -NUM_SEEDS // 2 <= number < NUM_SEEDS:
        # Python does not print integers of thousands of digits.
        shown = number if number.bit_length() < 256 else f"one of {number.bit_length()} bits"
        raise ValueError(f"seed must lie in [-2**63, 2**64), got {shown}")
    return number


def _to_int(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return int(value)


def offset_seed(seed: int, offset: int) -> int:
    """Return another seed for noise that must differ from that of `seed`; see `check_seed`.

    >>> offset_seed(1, 7), offset_seed(2**64 - 1, 7)
    (8, 6)
    """
    return (check_seed(seed) + offset) % NUM_SEEDS


def offset_seeds(seed: int | Sequence[int], offset: int) -> int | list[int]:
    """Return `offset_seed` of one seed, or of each of several."""
    if isinstance(seed, Sequence):
        return [offset_seed(item_seed, offset) for item_seed in seed]
    return offset_seed(seed, offset)


def check_tensor(name: str, value: object) -> None:
    """Raise `ValueError` unless the value is a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")


def check_data(name: str, x: Tensor, *, rank: int, channels: int, like: Tensor | None) -> None:
    """Raise `ValueError` unless x is `[batch, channels, *axes]`, floats in the dtype and on the
    device of `like`, a weight of the network that reads x.

    Under autocast any floating-point dtype is accepted.
    """
    check_tensor(name, x)
    if x.ndim != 2 + rank:
        raise ValueError(
            f"{name} must be [batch, channels, *axes] with {rank} axes, got {list(x.shape)}"
        )
    if not x.is_floating_point() or x.shape[1] != channels:
        raise ValueError(
            f"{name} must be floats in [-1, 1] with {channels} channels, "
            f"got {x.dtype} {list(x.shape)}"
        )
    if like is None or like.is_meta:
        return
    if x.device != like.device:
        raise ValueError(
            f"{name} is on {x.device} and the model on {like.device}; move one of them with .to()"
        )
    if x.dtype != like.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{name} is {x.dtype} and the model {like.dtype}; convert one of them with .to()"
        )


def is_integer(codes: Tensor) -> bool:
    """Return whether a tensor has an integer dtype; bool is not one."""
    dtype = codes.dtype  # asked instead of the tensor, whose methods count as operations
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def check_ids_dtype(name: str, ids: Tensor) -> None:
    """Raise `ValueError` unless ids have an integer dtype that torch can index with."""
    if not is_integer(ids) or ids.dtype in (torch.uint16, torch.uint32, torch.uint64):
        advice = "; convert them with .long()" if is_integer(ids) else ""
        raise ValueError(f"{name} must be integers, got {ids.dtype}{advice}")


def to_int64(name: str, codes: Tensor) -> Tensor:
    """Return codes of any integer dtype as int64: for uint16, uint32 and uint64 torch has few
    operations. Raise `ValueError` unless they are a tensor of integers.
    """
    check_tensor(name, codes)
    if not is_integer(codes):
        raise ValueError(f"{name} must be integers, got {codes.dtype}")
    return codes.long()


def to_codes(codes: Tensor, rank: int, num_codebooks: int) -> Tensor:
    """Return codes as `to_int64`; raise `ValueError` unless they are `[b, *grid]`, or
    `[b, *grid, s]` with several codebooks.
    """
    codes, is_multi = to_int64("codes", codes), num_codebooks > 1
    if codes.ndim != 1 + rank + is_multi:
        suffix = ", then an axis of codebooks" if is_multi else ""
        raise ValueError(
            f"codes must be [batch, *grid] with {rank} grid axes{suffix}, got {list(codes.shape)}"
        )
    return codes


def check_codes(name: str, codes: Tensor, codebook_size: int) -> None:
    """Raise `ValueError` unless all codes lie in [0, K)."""
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise ValueError(
            f"{name} must lie in [0, {codebook_size}), "
            f"got values from {int(codes.min())} to {int(codes.max())}"
        )
