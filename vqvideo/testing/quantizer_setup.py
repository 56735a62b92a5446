"""The quantizers that laws are checked on: after some steps of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS

Build = Callable[[], Quantizer]
ITEMS = 4
WARM = 100  # steps by which a codebook must have started


def trained_quantizer(build: Build, rank: int) -> tuple[Quantizer, Tensor]:
    """A quantizer after some training steps, in evaluation mode, and a batch for it."""
    torch.manual_seed(rank)
    quantizer = build().train()
    shape = (ITEMS, quantizer.z_channels, *GRIDS[rank])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small batches may rightly warn
        for _ in range(WARM):
            quantizer(torch.randn(shape))
            if not quantizer.warming_up:
                break
        for _ in range(3):
            quantizer(torch.randn(shape))
    return quantizer.eval(), torch.randn(shape)


def in_both_modes(build: Build, rank: int) -> Iterator[tuple[Quantizer, Tensor, str]]:
    """The same in evaluation mode, then in training mode, with a word on which; its codebook stays
    where it is, since nothing calls `step()`.
    """
    quantizer, z_e = trained_quantizer(build, rank)
    yield quantizer, z_e, f"rank {rank}"
    quantizer.auto_step = False
    yield quantizer.train(), z_e, f"rank {rank} in training"
