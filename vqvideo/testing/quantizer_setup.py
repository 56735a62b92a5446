"""The quantizers that laws are checked on: after a few training steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS

Build = Callable[[], Quantizer]
BATCH_SIZE = 4
MAX_WARMUP_STEPS = 100  # steps by which a codebook must be initialized


def build_trained_quantizer(build: Build, rank: int) -> tuple[Quantizer, Tensor]:
    """Return a quantizer after a few training steps, in evaluation mode, and a batch for it."""
    torch.manual_seed(rank)
    quantizer = build().train()
    shape = (BATCH_SIZE, quantizer.z_channels, *GRIDS[rank])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about small batches are expected here
        for _ in range(MAX_WARMUP_STEPS):
            quantizer(torch.randn(shape))
            if not quantizer.is_warming_up:
                break
        for _ in range(3):
            quantizer(torch.randn(shape))
    return quantizer.eval(), torch.randn(shape)


def iter_modes(build: Build, rank: int) -> Iterator[tuple[Quantizer, Tensor, str]]:
    """Yield a trained quantizer in evaluation mode, then in training mode, with a batch and a
    description; the codebook stays fixed, since nothing calls `update_codebook()`.
    """
    quantizer, z_e = build_trained_quantizer(build, rank)
    yield quantizer, z_e, f"rank {rank}"
    quantizer.auto_update = False
    yield quantizer.train(), z_e, f"rank {rank} in training"
