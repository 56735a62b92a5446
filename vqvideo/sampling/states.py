"""What sampling needs of a prior, and a prior under guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypedDict, Unpack

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.sampling.choice import Sampling


class FilterOptions(TypedDict, total=False):
    """How codes are chosen among those that may come; see `generate`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    guidance: float | None


class Drawer(Protocol):
    """Draws codes of one sample by itself.

    Attributes:
        name: what it is, and by what means.
    """

    name: str

    def draw(self, noise: Tensor, sampling: Sampling, codes: Tensor) -> int:
        """Fill in the next codes `[n]`, given noise `[n, K]`, and go on behind them; returns how
        many it drew, 0 where the state has to decide.
        """


class PriorState(Protocol):
    """A prior evaluated code by code, in raster order; with several codebooks the codes of a
    position one after the other.

    It was started for a grid, but the first axis of a grid need not end there: it goes on as far
    as the prior can, told of what follows by `tell` if that varies along that axis.
    """

    def logits(self) -> Tensor:
        """Logits `[b, K]` of the next code."""

    def push(self, codes: Tensor) -> None:
        """Fix that code, `[b]`, and go to the next."""

    def prefill(self, codes: Tensor, positions: int) -> None:
        """Fix the first positions of `codes` `[b, *grid(, s)]` at once; only at the start."""

    def tell(self, cond: Cond | None, steps: int) -> None:
        """What holds for the next steps along the first axis; only where one begins."""

    def fused(self) -> Drawer:
        """What draws codes faster than step by step; `ValueError` says why there is none."""


class GivesLogits(Protocol):
    """What draws codes, given all that it is told."""

    rank: int
    codebook_size: int
    num_codebooks: int
    endless: bool

    @property
    def device(self) -> torch.device: ...

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor: ...

    def start(self, batch: int, grid: tuple[int, ...], cond: Cond | None) -> PriorState | None: ...


class SamplesCodes(GivesLogits, Protocol):
    """What `generate` needs of a prior."""

    @property
    def drawn_from(self) -> GivesLogits: ...

    def draw_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond | None: ...


def is_integer(codes: Tensor) -> bool:
    """Whether the numbers are integers, and no truth values."""
    return not (codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool)


def check_codes(what: str, codes: Tensor, codebook_size: int) -> None:
    """Raise `ValueError` unless all codes lie in [0, K)."""
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise ValueError(
            f"{what} must lie in [0, {codebook_size}), "
            f"got values from {int(codes.min())} to {int(codes.max())}"
        )


def under_guidance(prior: GivesLogits, guidance: float | None, cond: object | None) -> GivesLogits:
    """The prior, or what stands for it under guidance; `cond` is only asked whether it is there."""
    if guidance is None:
        return prior
    if cond is None or not math.isfinite(guidance):
        told = "no cond" if cond is None else "a cond"
        raise ValueError(f"guidance must be a finite number beside a cond, got {guidance}, {told}")
    return prior if guidance == 1 else Guided(prior, guidance)


class Guided:
    """A prior whose logits lean from the unconditional ones towards, or past, the conditional."""

    def __init__(self, prior: GivesLogits, guidance: float) -> None:
        self.prior, self.guidance = prior, guidance
        self.codebook_size, self.num_codebooks = prior.codebook_size, prior.num_codebooks
        self.rank, self.device, self.endless = prior.rank, prior.device, prior.endless

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

    def prefill(self, codes: Tensor, positions: int) -> None:
        self.told.prefill(codes, positions)
        self.free.prefill(codes, positions)

    def tell(self, cond: Cond | None, steps: int) -> None:
        self.told.tell(cond, steps)
        self.free.tell(None, steps)

    def fused(self) -> Drawer:
        raise ValueError("it knows no guidance")


class Recomputed:
    """A prior without a state, or one to be checked: all logits anew for each code. Goes no
    further than its grid; see `PriorState`.
    """

    def __init__(
        self, prior: GivesLogits, batch: int, shape: tuple[int, ...], cond: Cond | None
    ) -> None:
        self.prior, self.cond, self.index = prior, cond, 0
        self.codes = torch.zeros(batch, *shape, dtype=torch.int64, device=prior.device)

    def logits(self) -> Tensor:
        return self.prior.logits(self.codes, self.cond).flatten(2)[..., self.index]

    def push(self, codes: Tensor) -> None:
        self.codes.flatten(1)[:, self.index] = codes
        self.index += 1

    def prefill(self, codes: Tensor, positions: int) -> None:
        self.index = positions * self.prior.num_codebooks
        self.codes.flatten(1)[:, : self.index] = codes.flatten(1)[:, : self.index]

    def tell(self, cond: Cond | None, steps: int) -> None:
        raise ValueError(f"{type(self.prior).__name__} has no step-by-step state to go on with")

    def fused(self) -> Drawer:
        raise ValueError("all is recomputed")
