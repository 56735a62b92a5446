"""Device and dtype of a module, those of its weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def get_device(module: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer; the CPU for a module without any.

    >>> get_device(nn.Linear(2, 2)), get_device(nn.ReLU())
    (device(type='cpu'), device(type='cpu'))
    """
    return next((x.device for x in _iter_tensors(module)), torch.device("cpu"))


def get_dtype(module: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating-point parameter or buffer; float32 without any.

    >>> get_dtype(nn.Linear(2, 2).double()), get_dtype(nn.ReLU())
    (torch.float64, torch.float32)
    """
    floats = (x.dtype for x in _iter_tensors(module) if x.is_floating_point())
    return next(floats, torch.float32)


def _iter_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
