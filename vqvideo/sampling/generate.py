"""Sample whole grids of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from vqvideo.arguments import check_codes, check_count, check_tensor, is_integer
from vqvideo.cond import Cond
from vqvideo.modes import eval_view
from vqvideo.sampling.gumbel_max import GumbelNoise, SamplingParams
from vqvideo.sampling.loop import (
    ProgressCallback,
    SamplingMethod,
    SamplingState,
    fused_sampler,
    sample_fixed_point,
    sample_loop,
)
from vqvideo.sampling.states import (
    FilterOptions,
    FusedSampler,
    GenerativePrior,
    GuidedPrior,
    PriorState,
    UncachedPriorState,
    apply_guidance,
)


class StreamOptions(FilterOptions, total=False):
    """Sampling options of `stream`, for functions that forward them."""

    seed: int | Sequence[int]
    method: SamplingMethod


class GenerateOptions(StreamOptions, total=False):
    """Sampling options of `generate`, for functions that forward them."""

    progress: ProgressCallback | None


def generate(
    prior: GenerativePrior,
    shape: tuple[int, ...],
    *,
    batch: int = 1,
    cond: Cond | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance_scale: float | None = None,
    seed: int | Sequence[int] = 0,
    method: SamplingMethod = "auto",
    progress: ProgressCallback | None = None,
    log_prob: Tensor | None = None,
) -> Tensor:
    """Sample code grids autoregressively: int64 `[batch, *shape]`, or `[batch, *shape, s]` from a
    prior over several codebooks.

    Args:
        prior: p(codes | cond).
        shape: shape of the grid.
        batch: number of samples; sample i depends only on `seed` and i.
        cond: conditions; None samples unconditionally.
        known: codes in the shape of the result; the codes at positions in `mask` are kept.
        mask: bool `[*shape]` (or `[*shape, s]`), True where codes are known: at any positions, not
            only in a prefix. Codes are sampled in the order of the prior (raster order, unless
            `Prior.order` gives another), each conditioned only on the codes before it.
        temperature, top_k, top_p: see `SamplingParams`.
        guidance_scale: classifier-free guidance (Ho and Salimans 2022): logits are
            u + guidance_scale * (c - u), for conditional logits c and unconditional logits u. 1 or
            None gives the conditional prior, 0 the unconditional prior; values above 1 amplify the
            condition. Both logits are computed, which doubles the time.
        seed: seed of all noise; torch's global generator is neither used nor changed. Pass one
            integer, or one per sample; each sample then equals a single sample with its own seed.
        method: "cached" evaluates the prior step by step with a state; "fused" does so in one
            compiled loop (batch 1, on the CPU, without top_k and top_p; requires numba); "full"
            recomputes all logits for each code (slow, the reference); "fixed_point" recomputes all
            codes until none changes (Song et al. 2020). All give the same codes. "auto" is the
            fastest available of "fused", "cached" and "full"; see `select_method`.
        progress: callback, called with (number of codes done, total number of codes).
        log_prob: float64 `[batch]`; the log-probability of the sampled codes in nats is added to
            it. Each code is scored given all codes before it in the prior's order, under the model
            without temperature, top-k and top-p. If no codes are known, the sum is
            `prior.log_prob`. If `log_prob` is given, "auto" excludes "fused".
    """
    if method not in get_args(SamplingMethod):
        raise ValueError(f"method must be {', '.join(get_args(SamplingMethod))}, got {method!r}")
    prior, grid = eval_view(prior), tuple(shape)
    codes, known_mask = _init_codes(prior, grid, batch, known, mask)
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    sampling.check(prior.codebook_size)
    if log_prob is not None:
        _check_log_prob(log_prob, batch, method)
    code_prior = prior.code_prior
    if code_prior is not prior:
        _check_latent_prior_args(known, log_prob)
        options = FilterOptions(temperature=temperature, top_k=top_k, top_p=top_p)
        options["guidance_scale"] = guidance_scale  # applied to the latents only
        cond = prior.sample_latents(batch, grid, cond, seed=seed, **options)
    elif guidance_scale is not None:
        code_prior = apply_guidance(prior, guidance_scale, cond)
    noise = GumbelNoise(seed, batch, prior.codebook_size, codes.device)
    task = SamplingState(code_prior, sampling, codes, known_mask, noise, progress, log_prob)
    with torch.inference_mode():
        if method == "fixed_point":
            return sample_fixed_point(task, cond)
        state, sampler = _init_state(task, method, cond)
        return sample_loop(task, state, sampler)


def _init_state(
    task: SamplingState, method: SamplingMethod, cond: Cond | None
) -> tuple[PriorState, FusedSampler | None]:
    """Return the state that the method evaluates the prior with, and its fused sampler if used."""
    prior, (batch, *shape) = task.prior, task.codes.shape
    state = None if method == "full" else prior.init_state(batch, tuple(shape[: prior.rank]), cond)
    if state is not None:
        sampler = None if task.log_prob is not None else fused_sampler(state, method, task.sampling)
        return state, sampler
    if method in ("fused", "cached"):
        raise ValueError(
            f"{type(prior).__name__} has no step-by-step state; use method='full' or 'fixed_point'"
        )
    return UncachedPriorState(prior, batch, tuple(shape), cond), None


def _init_codes(
    prior: GenerativePrior,
    grid: tuple[int, ...],
    batch: int,
    known: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return codes `[batch, *grid(, s)]`, zero except for the known ones, and the flat mask `[n]`
    of known codes.
    """
    check_count("batch", batch)
    if len(grid) != prior.rank or min(grid) < 1:
        raise ValueError(
            f"shape must have {prior.rank} sizes of at least 1, one for each axis of the grid; "
            f"got {grid}"
        )
    shape = (*grid, prior.num_codebooks) if prior.num_codebooks > 1 else grid
    codes = torch.zeros(batch, *shape, dtype=torch.int64, device=prior.device)
    if known is None and mask is None:
        return codes, torch.zeros(codes[0].numel(), dtype=torch.bool)
    if known is None or mask is None:
        raise ValueError(
            "known and mask must be given together: codes, and the positions where they are known"
        )
    check_tensor("known", known)
    if tuple(mask.shape) == grid != shape:
        mask = mask[..., None].expand(shape)
    if tuple(known.shape) != (batch, *shape) or not is_integer(known):
        raise ValueError(
            f"known must be integers of shape {[batch, *shape]}, "
            f"got {known.dtype} {list(known.shape)}"
        )
    if tuple(mask.shape) != shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be bool of shape {list(shape)}, got {mask.dtype} {list(mask.shape)}"
        )
    mask, known = mask.to(known.device), known.long()
    check_codes("known codes", known[:, mask], prior.codebook_size)
    return codes.copy_(torch.where(mask, known, 0)), mask.cpu().flatten()


def _check_latent_prior_args(known: Tensor | None, log_prob: Tensor | None) -> None:
    if known is not None:
        raise ValueError(
            "known codes are not supported by a prior with latents, since it samples the latents "
            "before the codes; sample whole grids, or use a prior without latents"
        )
    if log_prob is not None:
        raise ValueError(
            "log_prob is not supported by a prior with latents, which has only a lower bound of it"
        )


def _check_log_prob(log_prob: Tensor, batch: int, method: SamplingMethod) -> None:
    if log_prob.shape != (batch,) or log_prob.dtype != torch.float64:
        raise ValueError(
            f"log_prob must be float64 of shape [{batch}], got {log_prob.dtype} "
            f"{list(log_prob.shape)}"
        )
    if method == "fused":
        raise ValueError("the fused sampler does not support log_prob; use method='auto'")


def select_method(
    prior: GenerativePrior,
    *,
    batch: int = 1,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance_scale: float | None = None,
) -> SamplingMethod:
    """Return the method that `method="auto"` selects."""
    code_prior = prior.code_prior
    guided = code_prior if guidance_scale in (None, 1) else GuidedPrior(code_prior, guidance_scale)
    state = guided.init_state(batch, (1,) * prior.rank, None)
    if state is None:
        return "full"
    sampling = SamplingParams(top_k=top_k, top_p=top_p)
    return "fused" if fused_sampler(state, "auto", sampling) else "cached"


def describe_auto_method(prior: GenerativePrior) -> str:
    """Describe the method that "auto" selects for one sample on this machine, and why it is not
    "fused".
    """
    state = prior.code_prior.init_state(1, (1,) * prior.rank, None)
    if state is None:
        return "full: the prior has no step-by-step state"
    try:
        return state.build_fused_sampler().name
    except ValueError as reason:
        return f"cached: the fused sampler is not available, {reason}"
