"""What sampling needs of a prior, and a prior under guidance."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vqvideo.cond import Cond


class PriorState(Protocol):
    """A prior evaluated code by code, in raster order; with several codebooks the codes of a
    position one after the other.
    """

    def logits(self) -> Tensor:
        """Logits `[b, K]` of the next code."""

    def push(self, codes: Tensor) -> None:
        """Fix that code, `[b]`, and go to the next."""

    def push_frame(self, codes: Tensor) -> None:
        """Fix the codes `[b, h, w, s]` of a whole frame, at its start."""


class SamplesCodes(Protocol):
    """What `generate` needs of a prior."""

    codebook_size: int
    num_codebooks: int

    @property
    def device(self) -> torch.device: ...

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor: ...

    def start(self, batch: int, grid: tuple[int, ...], cond: Cond | None) -> PriorState | None: ...


class Guided:
    """A prior whose logits lean from the unconditional ones towards, or past, the conditional."""

    def __init__(self, prior: SamplesCodes, guidance: float) -> None:
        self.prior, self.guidance = prior, guidance
        self.codebook_size, self.num_codebooks = prior.codebook_size, prior.num_codebooks
        self.device = prior.device

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        free = self.prior.logits(codes, None)
        return free + self.guidance * (self.prior.logits(codes, cond) - free)

    def start(self, batch: int, grid: tuple[int, ...], cond: Cond | None) -> PriorState | None:
        told, free = (self.prior.start(batch, grid, each) for each in (cond, None))
        return None if told is None or free is None else _GuidedState(told, free, self.guidance)


class _GuidedState:
    """Two states in step; see `PriorState`."""

    def __init__(self, told: PriorState, free: PriorState, guidance: float) -> None:
        self.told, self.free, self.guidance = told, free, guidance

    def logits(self) -> Tensor:
        free = self.free.logits()
        return free + self.guidance * (self.told.logits() - free)

    def push(self, codes: Tensor) -> None:
        self.told.push(codes)
        self.free.push(codes)

    def push_frame(self, codes: Tensor) -> None:
        self.told.push_frame(codes)
        self.free.push_frame(codes)
