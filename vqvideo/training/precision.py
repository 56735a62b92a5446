"""Numeric precision of the networks, and loss scaling for float16."""

from __future__ import annotations

from typing import Any

import torch

from vqvideo.training.task import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of the networks on this machine; see `TrainingConfig.precision`."""
    if precision == "auto":
        return torch.bfloat16 if has_bf16() else torch.float32
    return DTYPES[precision]


def has_bf16() -> bool:
    """Return whether the GPU, or the CPU if there is no GPU, has bf16 instructions."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A torch without `get_capabilities` falls back to fp32; so does one told to use AVX2 only.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_instructions = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return bool(has_instructions) and torch.backends.cpu.get_cpu_capability() == "AVX512"


def build_grad_scaler(device: str, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Build a scaler of the loss for float16 gradients; it is disabled for other dtypes."""
    return torch.amp.GradScaler(device, enabled=dtype == torch.float16)
