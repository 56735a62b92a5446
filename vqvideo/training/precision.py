"""In which numbers networks calculate, and what half precision asks for."""

from __future__ import annotations

from typing import Any

import torch

from vqvideo.training.task import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: Precision) -> torch.dtype:
    """The type that networks calculate in on this machine; see `TrainingConfig.precision`."""
    if precision == "auto":
        return torch.bfloat16 if has_bf16() else torch.float32
    return DTYPES[precision]


def has_bf16() -> bool:
    """Whether the processor that would train, a GPU if there is one, has instructions for bf16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A torch that cannot tell what the processor has works in fp32.
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def loss_scaler(device: str, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Scales the loss where gradients would be too small for float16; elsewhere does nothing."""
    return torch.amp.GradScaler(device, enabled=dtype == torch.float16)
