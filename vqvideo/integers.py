"""Checks of tensors of integers, such as codes and ids of conditions."""

from __future__ import annotations

import torch
from torch import Tensor

# Not uint16, uint32 and uint64, for which torch lacks most operations.
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_integers(name: str, tensor: Tensor) -> None:
    """Raise `ValueError` unless a tensor has one of `INTEGER_DTYPES`; bool is not one."""
    if tensor.dtype not in INTEGER_DTYPES:
        advice = "; convert them with .long()" if "uint" in str(tensor.dtype) else ""
        raise ValueError(f"{name} must be integers, got {tensor.dtype}{advice}")
