"""Drawing codes from a prior: options, noise, and the one loop over positions.

Noise is drawn per sample and per position (Gumbel-max): the code at a position is the argmax of
filtered logits plus that position's noise. So every way of evaluating the prior, and every way of
splitting a batch, gives the same codes for the same seed, and whether a cache is right becomes a
test of equality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypedDict, get_args

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.modes import evaluating

Method = Literal["auto", "cached", "full", "fixed_point"]
Progress = Callable[[int, int], None]
POSITIONS_AT_ONCE = 64  # noise is drawn in blocks of fixed length, so a stream of it never depends
# on who asks for it


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a code is chosen from logits: temperature, then top-k, then top-p.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable code.
        top_k: keep the k most probable codes.
        top_p: keep the smallest set of most probable codes that holds this probability.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be a finite number >= 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")

    def check(self, codebook_size: int) -> None:
        """Raise `ValueError` when top_k is larger than K."""
        if self.top_k is not None and self.top_k > codebook_size:
            raise ValueError(f"top_k is {self.top_k}, but there are {codebook_size} codes")

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Codes int64 `[...]` for logits and Gumbel noise, both `[..., K]`."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits.float()
        largest_is_zero = logits - logits.amax(dim=-1, keepdim=True)  # a cold one overflows not
        return (self.filter(largest_is_zero) + noise).argmax(dim=-1)

    def filter(self, logits: Tensor) -> Tensor:
        """Logits `[..., K]` over the temperature, codes that are filtered out at -inf."""
        self.check(logits.shape[-1])
        logits = logits / max(self.temperature, torch.finfo(logits.dtype).tiny)
        if self.top_k is not None:
            order = logits.sort(dim=-1, descending=True, stable=True).indices
            kept = torch.zeros_like(logits, dtype=torch.bool)
            kept.scatter_(-1, order[..., : self.top_k], True)
            logits = logits.masked_fill(~kept, -math.inf)
        if self.top_p is not None and self.top_p < 1:
            ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
            before = ranked.cumsum(dim=-1) - ranked
            dropped = torch.zeros_like(before, dtype=torch.bool)
            dropped.scatter_(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, -math.inf)
        return logits


class SamplingOptions(TypedDict, total=False):
    """The options of `generate` that say how codes are drawn, for functions that hand them on."""

    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int
    method: Method
    progress: Progress | None


class PriorState(Protocol):
    """A prior evaluated position by position, in raster order."""

    def logits(self) -> Tensor:
        """Logits `[b, K]` of the next position."""

    def push(self, codes: Tensor) -> None:
        """Fix the codes `[b]` of that position and go to the next."""

    def push_frame(self, codes: Tensor) -> None:
        """Fix the codes `[b, h, w]` of a whole frame, at its start."""


class SamplesCodes(Protocol):
    """What `generate` needs of a prior."""

    codebook_size: int

    @property
    def device(self) -> torch.device: ...

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor: ...

    def start(self, batch: int, grid: tuple[int, ...], cond: Cond | None) -> PriorState | None: ...


def gumbel_noise(seed: int, batch: int, codebook_size: int) -> Iterator[Tensor]:
    """Gumbel noise `[b, K]` of one position after the other.

    Sample b has its own stream, which depends on `seed` and b alone.
    """
    streams = [torch.Generator().manual_seed(_mixed(seed, sample)) for sample in range(batch)]
    while True:
        shape = (POSITIONS_AT_ONCE, codebook_size)
        blocks = [-torch.empty(shape).exponential_(generator=stream).log() for stream in streams]
        yield from torch.stack(blocks, dim=1)


def _mixed(seed: int, sample: int) -> int:
    """A 63-bit seed for one sample of a batch (the finaliser of SplitMix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + (sample + 1) * 0xD1B54A32D192ED03) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 1


@torch.no_grad()
def generate(
    prior: SamplesCodes,
    shape: tuple[int, ...],
    *,
    batch: int = 1,
    cond: Cond | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    method: Method = "auto",
    progress: Progress | None = None,
) -> Tensor:
    """Ancestral sampling of code grids: int64 `[batch, *shape]`.

    Args:
        prior: p(codes | cond).
        shape: of the grid.
        batch: number of samples; sample i depends on `seed` and i, not on the others.
        cond: what the prior is told; None samples unconditionally.
        known: codes `[batch, *shape]` of which those under `mask` are kept.
        mask: bool `[*shape]`, true where `known` holds; any positions, not only a prefix. Codes
            are drawn in raster order, each knowing only what stands before it.
        temperature, top_k, top_p: see `Sampling`.
        seed: decides all noise; torch's global generator is neither used nor changed.
        method: "cached" steps a state, "full" recomputes all logits for each code (slow: the
            reference), "fixed_point" recomputes all codes until none changes (Song et al. 2020);
            all three give the same codes. "auto" is "cached" where the prior has a state.
        progress: called with (codes done, codes in all).
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be {', '.join(get_args(Method))}, got {method!r}")
    shape = tuple(shape)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    _check_known(shape, batch, known, mask, prior.codebook_size)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    sampling.check(prior.codebook_size)
    codes = torch.zeros(batch, *shape, dtype=torch.int64, device=prior.device)
    if known is not None and mask is not None:
        codes.copy_(torch.where(mask.to(known.device), known, 0))
    task = _Task(
        sampling=sampling,
        codes=codes.flatten(1),
        fixed=(torch.zeros(shape, dtype=torch.bool) if mask is None else mask.cpu()).flatten(),
        noise=(drawn.to(codes.device) for drawn in gumbel_noise(seed, batch, prior.codebook_size)),
        report=progress or (lambda done, total: None),
    )
    with evaluating(prior):
        state = prior.start(batch, shape, cond) if method in ("auto", "cached") else None
        if state is not None:
            return _cached(task, state, shape).view_as(codes)
        if method == "cached":
            raise ValueError(
                f"{type(prior).__name__} has no step-by-step state; use method='full' or "
                f"'fixed_point'"
            )
        recompute = _fixed_point if method == "fixed_point" else _full
        return recompute(
            task, lambda flat: prior.logits(flat.view_as(codes), cond).flatten(2)
        ).view_as(codes)


class _Task(NamedTuple):
    """Codes to fill in: `codes` `[b, n]` in raster order, of which those under `fixed` stay."""

    sampling: Sampling
    codes: Tensor
    fixed: Tensor
    noise: Iterator[Tensor]
    report: Progress


def _cached(task: _Task, state: PriorState, shape: tuple[int, ...]) -> Tensor:
    codes, total = task.codes, len(task.fixed)
    frame = math.prod(shape[1:]) if len(shape) == 3 else 0  # only rank 3 has frames
    index = 0
    while index < total:
        if frame and index % frame == 0 and task.fixed[index : index + frame].all():
            state.push_frame(codes[:, index : index + frame].reshape(len(codes), *shape[1:]))
            for _ in range(frame):
                next(task.noise)
            index += frame
        else:
            drawn = next(task.noise)
            if not task.fixed[index]:
                codes[:, index] = task.sampling.choose(state.logits(), drawn)
            state.push(codes[:, index])
            index += 1
        task.report(index, total)
    return codes


def _full(task: _Task, logits: Callable[[Tensor], Tensor]) -> Tensor:
    codes, total = task.codes, len(task.fixed)
    for index in range(total):
        drawn = next(task.noise)
        if not task.fixed[index]:
            codes[:, index] = task.sampling.choose(logits(codes)[..., index], drawn)
        task.report(index + 1, total)
    return codes


def _fixed_point(task: _Task, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """After n passes the first n codes are final, so it ends after at most all of them."""
    codes, total = task.codes, len(task.fixed)
    drawn = torch.stack([next(task.noise) for _ in range(total)], dim=1)
    fixed = task.fixed.to(codes.device)
    for _ in range(total + 1):
        again = task.sampling.choose(logits(codes).movedim(1, 2), drawn)
        again = torch.where(fixed, codes, again)
        task.report(int((again == codes).all(dim=0).long().cumprod(dim=0).sum()), total)
        if torch.equal(again, codes):
            return codes
        codes = again
    raise RuntimeError(
        f"no fixed point after {total + 1} passes: a logit depends on its own or a later code; "
        f"vqvideo.testing.check_prior says which"
    )


def _check_known(
    shape: tuple[int, ...],
    batch: int,
    known: Tensor | None,
    mask: Tensor | None,
    codebook_size: int,
) -> None:
    if (known is None) != (mask is None):
        raise ValueError("known and mask go together: codes, and where they hold")
    if known is not None and (
        tuple(known.shape) != (batch, *shape)
        or known.is_floating_point()
        or known.dtype == torch.bool
    ):
        raise ValueError(
            f"known must be integers of shape {[batch, *shape]}, "
            f"got {known.dtype} {list(known.shape)}"
        )
    if mask is not None and (tuple(mask.shape) != shape or mask.dtype != torch.bool):
        raise ValueError(
            f"mask must be bool of shape {list(shape)}, got {mask.dtype} {list(mask.shape)}"
        )
    if known is not None and mask is not None:
        kept = known[:, mask.to(known.device)]
        if kept.numel() and not 0 <= int(kept.min()) <= int(kept.max()) < codebook_size:
            raise ValueError(
                f"known codes must lie in [0, {codebook_size}), "
                f"got values from {int(kept.min())} to {int(kept.max())}"
            )
