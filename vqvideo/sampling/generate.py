"""The one loop over positions, in three forms that give the same codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.modes import evaluating
from vqvideo.sampling.choice import GumbelNoise, Sampling
from vqvideo.sampling.states import Guided, PriorState, Recomputed, SamplesCodes

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
        codes=codes,
        fixed=(torch.zeros(shape, dtype=torch.bool) if mask is None else mask.cpu()).flatten(),
        noise=GumbelNoise(seed, batch, prior.codebook_size, codes.device),
        report=progress or (lambda done, total: None),
    )
    with evaluating(prior), torch.inference_mode():
        if method == "fixed_point":
            return _fixed_point(task, lambda codes: guided.logits(codes, cond))
        state: PriorState | None = None
        if method != "full":
            state = guided.start(batch, grid, cond)
            if state is None and method == "cached":
                raise ValueError(
                    f"{type(prior).__name__} has no step-by-step state; use method='full' or "
                    f"'fixed_point'"
                )
        return _walk(task, state or Recomputed(guided, batch, shape, cond), prior.num_codebooks)


class _Task(NamedTuple):
    """Codes to fill in: `codes` `[b, *shape]`, of which those under `fixed` `[n]` stay."""

    sampling: Sampling
    codes: Tensor
    fixed: Tensor
    noise: GumbelNoise
    report: Progress


def _walk(task: _Task, state: PriorState, num_codebooks: int) -> Tensor:
    """Code by code; those at the start that are known at once, those at the end never."""
    flat, fixed = task.codes.flatten(1), task.fixed.tolist()
    total, last = len(fixed), _last_free(fixed)
    positions = (fixed.index(False) if last else 0) // num_codebooks
    index = positions * num_codebooks
    if positions:
        state.prefill(task.codes, positions)
        task.noise.skip(index)
        task.report(index, total)
    each = flat.unbind(1)
    while index < last:
        codes = each[index]
        if not fixed[index]:
            codes.copy_(task.sampling.choose(state.logits(), task.noise.next()))
        else:
            task.noise.skip(1)
        state.push(codes)
        index += 1
        task.report(index, total)
    if index < total or not total:
        task.report(total, total)
    return task.codes


def _last_free(fixed: list[bool]) -> int:
    """How many codes there are up to the last one to be drawn."""
    return len(fixed) - fixed[::-1].index(False) if False in fixed else 0


def _fixed_point(task: _Task, logits: Callable[[Tensor], Tensor]) -> Tensor:
    """After n passes the first n codes are final, so it ends after at most all of them."""
    codes, total = task.codes.flatten(1), len(task.fixed)
    drawn = []
    for _ in range(total):
        drawn.append(task.noise.next())
    noise, fixed = torch.stack(drawn, dim=1), task.fixed.to(codes.device)
    for _ in range(total + 1):
        scores = logits(codes.view_as(task.codes)).flatten(2).movedim(1, 2)
        again = task.sampling.choose(scores, noise)
        again = torch.where(fixed, codes, again)
        task.report(int((again == codes).all(dim=0).long().cumprod(dim=0).sum()), total)
        if torch.equal(again, codes):
            return codes.view_as(task.codes)
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
