"""Drawing whole grids of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.modes import evaluating
from vqvideo.sampling.choice import GumbelNoise, Sampling
from vqvideo.sampling.states import (
    FilterOptions,
    Guided,
    Recomputed,
    SamplesCodes,
    check_codes,
    is_integer,
    under_guidance,
)
from vqvideo.sampling.walk import Method, Progress, Task, drawer_of, fixed_point, walk


class StreamOptions(FilterOptions, total=False):
    """The options of `stream` that say how codes are drawn, for functions that hand them on."""

    seed: int | Sequence[int]
    method: Method


class SamplingOptions(StreamOptions, total=False):
    """Those of `generate`."""

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
    seed: int | Sequence[int] = 0,
    method: Method = "auto",
    progress: Progress | None = None,
    log_prob: Tensor | None = None,
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
        seed: decides all noise; torch's global generator is neither used nor changed. One number,
            or one for each sample, which is then the sample that this number gives alone.
        method: "cached" steps a state; "fused" does so in one compiled loop (of one sample, on the
            CPU, without top_k and top_p; needs numba); "full" recomputes all logits for each code
            (slow: the reference); "fixed_point" recomputes all codes until none changes (Song et
            al. 2020). All give the same codes. "auto" is the quickest of the first three that
            there is, see `method_for`.
        progress: called with (codes done, codes in all).
        log_prob: float64 `[batch]`, to which the log-probability in nats of the codes drawn is
            added, given all before them: that of the model itself, before temperature, top-k and
            top-p. For free samples it comes to `prior.log_prob`. "auto" is then not "fused".
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be {', '.join(get_args(Method))}, got {method!r}")
    shape = tuple(shape)
    if len(shape) != prior.rank or min(shape) < 1:
        raise ValueError(
            f"shape must hold {prior.rank} sizes of at least 1, one for each axis of the grid; "
            f"got {shape}"
        )
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
    if prior.drawn_from is not prior:
        _check_free_of_latents(known, log_prob)
        with evaluating(prior):
            cond = prior.draw_latents(
                batch,
                grid,
                cond,
                seed=seed,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                guidance=guidance,
            )
        guidance = None  # it has led to the latents
    guided = under_guidance(prior.drawn_from, guidance, cond)
    if log_prob is not None and (log_prob.shape != (batch,) or log_prob.dtype != torch.float64):
        raise ValueError(
            f"log_prob must be float64 of shape [{batch}], got {log_prob.dtype} "
            f"{list(log_prob.shape)}"
        )
    if log_prob is not None and method == "fused":
        raise ValueError("the fused step knows no log_prob; use method='auto'")
    codes = torch.zeros(batch, *shape, dtype=torch.int64, device=prior.device)
    if known is not None and mask is not None:
        codes.copy_(torch.where(mask.to(known.device), known, 0))
    task = Task(
        sampling=sampling,
        codes=codes,
        fixed=(torch.zeros(shape, dtype=torch.bool) if mask is None else mask.cpu()).flatten(),
        noise=GumbelNoise(seed, batch, prior.codebook_size, codes.device),
        report=progress or (lambda done, total: None),
        log_prob=log_prob,
    )
    with evaluating(prior), torch.inference_mode():
        if method == "fixed_point":
            return fixed_point(task, lambda codes: guided.logits(codes, cond))
        state = None if method == "full" else guided.start(batch, grid, cond)
        if state is None and method in ("fused", "cached"):
            raise ValueError(
                f"{type(prior).__name__} has no step-by-step state; use method='full' or "
                f"'fixed_point'"
            )
        drawer = drawer_of(state, method, sampling) if state and log_prob is None else None
        state = state or Recomputed(guided, batch, shape, cond)
        return walk(task, state, drawer, prior.num_codebooks)


def _check_free_of_latents(known: Tensor | None, log_prob: Tensor | None) -> None:
    if known is not None:
        raise ValueError(
            "this prior draws latents for a grid before its codes, and which latents belong to "
            "known codes it cannot tell; sample whole grids, or take a prior without latents"
        )
    if log_prob is not None:
        raise ValueError("this prior has latents, so it knows a bound of log_prob only")


def _check_known(
    shape: tuple[int, ...],
    batch: int,
    known: Tensor | None,
    mask: Tensor | None,
    codebook_size: int,
) -> None:
    if (known is None) != (mask is None):
        raise ValueError("known and mask go together: codes, and where they hold")
    if known is not None and (tuple(known.shape) != (batch, *shape) or not is_integer(known)):
        raise ValueError(
            f"known must be integers of shape {[batch, *shape]}, "
            f"got {known.dtype} {list(known.shape)}"
        )
    if mask is not None and (tuple(mask.shape) != shape or mask.dtype != torch.bool):
        raise ValueError(
            f"mask must be bool of shape {list(shape)}, got {mask.dtype} {list(mask.shape)}"
        )
    if known is not None and mask is not None:
        check_codes("known codes", known[:, mask.to(known.device)], codebook_size)


def method_for(
    prior: SamplesCodes,
    *,
    batch: int = 1,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
) -> Method:
    """What `method="auto"` comes down to."""
    drawn_from = prior.drawn_from
    guided = drawn_from if guidance in (None, 1) else Guided(drawn_from, guidance)
    state = guided.start(batch, (1,) * prior.rank, None)
    if state is None:
        return "full"
    sampling = Sampling(top_k=top_k, top_p=top_p)
    return "fused" if drawer_of(state, "auto", sampling) else "cached"


def single_samples(prior: SamplesCodes) -> str:
    """How `method="auto"` draws single samples on this machine, and why not faster, in words."""
    state = prior.drawn_from.start(1, (1,) * prior.rank, None)
    if state is None:
        return "full: the prior has no step-by-step state"
    try:
        return state.fused().name
    except ValueError as reason:
        return f"cached: there is no fused step, {reason}"
