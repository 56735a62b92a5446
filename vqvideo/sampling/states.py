"""Interfaces of priors for sampling, their order, and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypedDict, Unpack

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.sampling.gumbel_max import SamplingParams

Order = range | Sequence[Tensor]
"""Groups of codes in the order in which a prior models them, as flat indices into the codes of an
item `[*grid(, s)]`. The codes of a group are independent given all codes of earlier groups, so they
are sampled at once. Every code is in one group. `range(n)` is raster order: groups of one code. In
any other order the groups are int64 tensors. Groups depend on the shape of the codes and on a seed,
never on values."""


class FilterOptions(TypedDict, total=False):
    """Options of the distribution that codes are sampled from; see `generate`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    guidance_scale: float | None


class FusedSampler(Protocol):
    """Sampler that evaluates the prior and samples codes in one compiled loop, for one sample.

    Attributes:
        name: description of the implementation, such as "fused (numba 0.60.0)".
    """

    name: str

    def sample(self, noise: Tensor, sampling: SamplingParams, codes: Tensor) -> int:
        """Sample the next codes into `codes` `[n]`, given noise `[n, K]`, and advance.

        Return the number of codes sampled; 0 if the step-by-step state must sample the next code.
        """


class PriorState(Protocol):
    """State for evaluating a prior code by code, in raster order; with several codebooks, the
    codes of a position follow one another. (`UncachedPriorState` takes the groups of any order.)

    The state is initialized for a grid, but it can continue beyond the grid's first axis if the
    prior is unbounded. `set_condition` then provides conditions that vary along that axis.
    """

    def logits(self) -> Tensor:
        """Return the logits `[b, K]` of the next code."""

    def push(self, codes: Tensor) -> None:
        """Append the next code, `[b]`, and advance."""

    def prefill(self, codes: Tensor, num_positions: int) -> None:
        """Process the first positions of `codes` `[b, *grid(, s)]` in one pass; valid only at the
        start.
        """

    def set_condition(self, cond: Cond | None, num_steps: int) -> None:
        """Set the condition for the next steps along the first axis; valid only at the start of a
        step.
        """

    def build_fused_sampler(self) -> FusedSampler:
        """Return a fused sampler.

        Raises:
            ValueError: the fused sampler is not available; the message gives the reason.
        """


class AutoregressiveModel(Protocol):
    """Model that gives the logits of each code, given all codes before it and conditions."""

    rank: int
    codebook_size: int
    num_codebooks: int
    is_unbounded: bool

    @property
    def device(self) -> torch.device: ...

    def order(self, shape: tuple[int, ...]) -> Order: ...

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor: ...

    def init_state(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None
    ) -> PriorState | None: ...


class GenerativePrior(AutoregressiveModel, Protocol):
    """Prior that `generate` can sample from: optional latents, then codes from `code_prior`."""

    @property
    def code_prior(self) -> AutoregressiveModel: ...

    def sample_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond | None: ...


def apply_guidance(
    prior: AutoregressiveModel, guidance_scale: float, cond: object | None
) -> AutoregressiveModel:
    """Return the prior with classifier-free guidance, or the prior itself if the scale is 1.

    Raises:
        ValueError: the scale is not finite, or there is no `cond`.
    """
    if cond is None or not math.isfinite(guidance_scale):
        suffix = "without a cond" if cond is None else "with a cond"
        raise ValueError(
            f"guidance_scale must be a finite number and requires a cond, "
            f"got {guidance_scale} {suffix}"
        )
    return prior if guidance_scale == 1 else GuidedPrior(prior, guidance_scale)


class GuidedPrior:
    """Prior with classifier-free guidance: logits interpolate or extrapolate from the unconditional
    logits to the conditional logits.
    """

    def __init__(self, prior: AutoregressiveModel, guidance_scale: float) -> None:
        self.prior, self.guidance_scale = prior, guidance_scale
        self.codebook_size, self.num_codebooks = prior.codebook_size, prior.num_codebooks
        self.rank, self.device, self.is_unbounded = prior.rank, prior.device, prior.is_unbounded
        self.order = prior.order

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        uncond = self.prior.logits(codes, None)
        return uncond + self.guidance_scale * (self.prior.logits(codes, cond) - uncond)

    def init_state(self, batch: int, grid: tuple[int, ...], cond: Cond | None) -> PriorState | None:
        cond_state, uncond_state = (self.prior.init_state(batch, grid, c) for c in (cond, None))
        if cond_state is None or uncond_state is None:
            return None
        return _GuidedPriorState(cond_state, uncond_state, self.guidance_scale)


class _GuidedPriorState:
    """State of a prior under guidance: a conditional and an unconditional state in parallel; see
    `PriorState`.
    """

    def __init__(
        self, cond_state: PriorState, uncond_state: PriorState, guidance_scale: float
    ) -> None:
        self.cond_state, self.uncond_state = cond_state, uncond_state
        self.guidance_scale = guidance_scale

    def logits(self) -> Tensor:
        uncond = self.uncond_state.logits()
        return uncond + self.guidance_scale * (self.cond_state.logits() - uncond)

    def push(self, codes: Tensor) -> None:
        self.cond_state.push(codes)
        self.uncond_state.push(codes)

    def prefill(self, codes: Tensor, num_positions: int) -> None:
        self.cond_state.prefill(codes, num_positions)
        self.uncond_state.prefill(codes, num_positions)

    def set_condition(self, cond: Cond | None, num_steps: int) -> None:
        self.cond_state.set_condition(cond, num_steps)
        self.uncond_state.set_condition(None, num_steps)

    def build_fused_sampler(self) -> FusedSampler:
        raise ValueError("it does not support guidance")


class UncachedPriorState:
    """State without a cache, which recomputes all logits for each group of the prior's order; see
    `PriorState`.

    In raster order `logits` returns `[b, K]` and `push` takes `[b]`; in any other order they are
    `[b, m, K]` and `[b, m]` for a group of m codes. The state serves priors without a step-by-step
    state and as the reference for those with one. It cannot continue beyond its grid.
    """

    def __init__(
        self, prior: AutoregressiveModel, batch: int, shape: tuple[int, ...], cond: Cond | None
    ) -> None:
        self.prior, self.cond, self.order, self.index = prior, cond, prior.order(shape), 0
        self.codes = torch.zeros(batch, *shape, dtype=torch.int64, device=prior.device)

    def logits(self) -> Tensor:
        logits = self.prior.logits(self.codes, self.cond).flatten(2)
        return logits[..., self.order[self.index]].movedim(1, -1)

    def push(self, codes: Tensor) -> None:
        self.codes.flatten(1)[:, self.order[self.index]] = codes
        self.index += 1

    def prefill(self, codes: Tensor, num_positions: int) -> None:
        self.index = num_positions * self.prior.num_codebooks
        self.codes.flatten(1)[:, : self.index] = codes.flatten(1)[:, : self.index]

    def set_condition(self, cond: Cond | None, num_steps: int) -> None:
        raise ValueError(
            f"{type(self.prior).__name__} has no step-by-step state, so it cannot continue beyond "
            f"its grid"
        )

    def build_fused_sampler(self) -> FusedSampler:
        raise ValueError("it requires a step-by-step state")
