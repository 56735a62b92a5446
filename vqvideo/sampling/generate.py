"""The one loop over positions, in three forms that give the same codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.modes import evaluating
from vqvideo.sampling.choice import Sampling, gumbel_noise
from vqvideo.sampling.states import Guided, PriorState, SamplesCodes

Method = Literal["auto", "cached", "full", "fixed_point"]
Progress = Callable[[int, int], None]


class SamplingOptions(TypedDict, total=False):
    """The options of `generate` that say how codes are drawn, for functions that hand them on."""

    temperature: float
    top_k: int | None
    top_p: float | None
    guidance: float | None
    seed: int
    method: Method
    progress: Progress | None


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
    guidance: float | None = None,
    seed: int = 0,
    method: Method = "auto",
    progress: Progress | None = None,
) -> Tensor:
    """Ancestral sampling of code grids: int64 `[batch, *shape]`, or `[batch, *shape, s]` from a
    prior over several codebooks.

    Args:
        prior: p(codes | cond).
        shape: of the grid.
        batch: number of samples; sample i depends on `seed` and i, not on the others.
        cond: what the prior is told; None samples unconditionally.
        known: codes, shaped like the result, of which those under `mask` are kept.
        mask: bool `[*shape]` (or `[*shape, s]`), true where `known` holds; any positions, not
            only a prefix. Codes are drawn in raster order, each knowing only what stands before
            it.
        temperature, top_k, top_p: see `Sampling`.
        guidance: how strongly `cond` decides: logits are u + guidance (c - u), of the conditional
            prior c and the unconditional u (classifier-free guidance, Ho and Salimans 2022). 1 or
            None is the conditional prior, 0 the unconditional, above 1 exaggerates. Both are
            evaluated, which takes twice the time.
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
    if prior.num_codebooks > 1:
        if mask is not None and tuple(mask.shape) == shape:
            mask = mask[..., None].expand(*shape, prior.num_codebooks)
        grid, shape = shape, (*shape, prior.num_codebooks)
    else:
        grid = shape
    _check_known(shape, batch, known, mask, prior.codebook_size)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    sampling.check(prior.codebook_size)
    if guidance is not None and (cond is None or not math.isfinite(guidance)):
        told = "no cond" if cond is None else "a cond"
        raise ValueError(f"guidance must be a finite number beside a cond, got {guidance}, {told}")
    guided = prior if guidance in (None, 1) else Guided(prior, guidance)
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
        state = guided.start(batch, grid, cond) if method in ("auto", "cached") else None
        if state is not None:
            return _cached(task, state, grid, prior.num_codebooks).view_as(codes)
        if method == "cached":
            raise ValueError(
                f"{type(prior).__name__} has no step-by-step state; use method='full' or "
                f"'fixed_point'"
            )
        recompute = _fixed_point if method == "fixed_point" else _full
        return recompute(
            task, lambda flat: guided.logits(flat.view_as(codes), cond).flatten(2)
        ).view_as(codes)


class _Task(NamedTuple):
    """Codes to fill in: `codes` `[b, n]` in raster order, of which those under `fixed` stay."""

    sampling: Sampling
    codes: Tensor
    fixed: Tensor
    noise: Iterator[Tensor]
    report: Progress


def _cached(task: _Task, state: PriorState, grid: tuple[int, ...], num_codebooks: int) -> Tensor:
    codes, total = task.codes, len(task.fixed)
    each = (*grid[1:], num_codebooks)
    frame = math.prod(each) if len(grid) == 3 else 0  # only rank 3 has frames
    index = 0
    while index < total:
        if frame and index % frame == 0 and task.fixed[index : index + frame].all():
            state.push_frame(codes[:, index : index + frame].reshape(len(codes), *each))
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
