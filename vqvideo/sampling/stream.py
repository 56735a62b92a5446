"""Streaming sampling: codes of one step along the first axis at a time, without limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vqvideo.arguments import check_codes, check_count, check_tensor, is_integer
from vqvideo.cond import Cond
from vqvideo.modes import eval_view
from vqvideo.sampling.gumbel_max import GumbelNoise, SamplingParams
from vqvideo.sampling.loop import SamplingMethod, SamplingState, fused_sampler, sample_loop
from vqvideo.sampling.states import (
    AutoregressiveModel,
    GenerativePrior,
    PriorState,
    apply_guidance,
)


def stream(
    prior: GenerativePrior, inner_shape: tuple[int, ...], **options: Any
) -> Iterator[Tensor]:
    """Return an iterator over the codes `[batch, *inner_shape(, s)]` of successive steps along the
    first axis: a frame at rank 3, a row at rank 2, a single code `[batch]` at rank 1.

    The codes equal the output of `generate` with the same seed on a longer grid, for any number of
    steps. Memory is bounded if the prior has a finite receptive field (`wavenet`, `pixelcnn`,
    `masked3d`). Steps are sampled lazily.

    Args:
        prior, inner_shape, options: see `stream_chunks`.

    Raises:
        ValueError: see `stream_chunks`.
    """
    chunks = stream_chunks(prior, inner_shape, **options)
    return itertools.chain.from_iterable(chunk.unbind(1) for chunk in chunks)


def stream_chunks(
    prior: GenerativePrior,
    inner_shape: tuple[int, ...],
    *,
    batch: int = 1,
    known: Tensor | None = None,
    cond: Cond | None = None,
    conds: Iterable[Cond] | None = None,
    temperature: float | Iterable[float] = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance_scale: float | None = None,
    seed: int | Sequence[int] = 0,
    method: SamplingMethod = "auto",
) -> Iterator[Tensor]:
    """Return an iterator over chunks of codes, `[batch, n, *inner_shape(, s)]`, one chunk of n
    steps along the first axis per condition.

    Args:
        prior: p(codes | cond).
        inner_shape: shape of the grid without its first axis.
        batch: number of samples.
        known: codes `[batch, n, *inner_shape(, s)]` of the first n steps; sampling continues after
            them.
        cond: conditions of the known steps. If `conds` is None, they hold for all following steps
            too and must not vary from step to step.
        conds: conditions of the following steps, read lazily. Each holds for as many steps as its
            local map has, or for one step without a local map. The stream ends with them.
        temperature: see `generate`; or an iterable with one value per condition, each read after
            its condition.
        top_k, top_p, guidance_scale, seed, method: see `generate`.

    Raises:
        ValueError: an argument is invalid, or the prior does not support streaming. Errors that do
            not depend on `conds` and on the prior's state are raised before the first step.
    """
    if method not in ("auto", "fused", "cached"):
        raise ValueError(f"method must be auto, fused or cached for a stream, got {method!r}")
    if prior.code_prior is not prior:
        raise ValueError(
            "this prior samples latents for a whole grid, so it does not support streaming; "
            "generate a grid of fixed size"
        )
    if not prior.is_unbounded:
        raise ValueError(
            "this prior is conditioned on the rows of its grid (coordinates), so it does not "
            "support streaming; generate a grid of fixed size, or train a prior without coordinates"
        )
    if conds is None and cond is not None and (cond.actions is not None or cond.local is not None):
        raise ValueError(
            "actions and local maps vary from step to step: pass the following steps as conds, one "
            "Cond for each step; cond is for the known steps"
        )
    check_count("batch", batch)
    if isinstance(temperature, Iterable):
        sampling, temperatures = SamplingParams(top_k=top_k, top_p=top_p), temperature
    else:
        sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
        temperatures = itertools.repeat(temperature)
    sampling.check(prior.codebook_size)
    guided = apply_guidance(eval_view(prior), guidance_scale, cond if conds is None else conds)
    inner_shape = tuple(inner_shape)
    if len(inner_shape) != prior.rank - 1:
        raise ValueError(f"inner_shape must have {prior.rank - 1} axes, got {inner_shape}")
    codebook_shape = (prior.num_codebooks,) if prior.num_codebooks > 1 else ()
    if known is not None:
        check_tensor("known", known)
        known = known if known.shape[1:2] != (0,) else None
    if known is not None:
        _check_known(known, batch, inner_shape, codebook_shape, prior.codebook_size)
        known = known.long()
    noise = GumbelNoise(seed, batch, prior.codebook_size, prior.device)
    noise.skip(0 if known is None else known[0].numel())

    def iterate_chunks() -> Iterator[Tensor]:
        state: PriorState | None = None
        chunk_conds = itertools.repeat(cond) if conds is None else conds
        for chunk_cond, chunk_temperature in zip(chunk_conds, temperatures, strict=False):
            local = None if conds is None or chunk_cond is None else chunk_cond.local
            num_steps = 1 if local is None else local.shape[2]
            shape = (batch, num_steps, *inner_shape, *codebook_shape)
            codes = torch.zeros(shape, dtype=torch.int64, device=prior.device)
            known_mask = torch.zeros(math.prod(shape[1:]), dtype=torch.bool)
            chunk_sampling = replace(sampling, temperature=chunk_temperature)
            sampling_state = SamplingState(
                chunk_sampling, codes, known_mask, noise, lambda num_done, total: None
            )
            with torch.inference_mode():
                is_first = state is None
                if state is None:
                    init_cond = chunk_cond if known is None else cond
                    state = _init_state(guided, batch, inner_shape, known, num_steps, init_cond)
                    sampler = fused_sampler(state, method, sampling)
                if conds is not None and not (is_first and known is None):
                    state.set_condition(chunk_cond, num_steps)
                sample_loop(sampling_state, state, sampler, prior.num_codebooks)
            yield codes

    return iterate_chunks()


def _init_state(
    prior: AutoregressiveModel,
    batch: int,
    inner_shape: tuple[int, ...],
    known: Tensor | None,
    num_steps: int,
    cond: Cond | None,
) -> PriorState:
    """Return a state after the known steps; without known steps, before the first `num_steps`.

    `cond` holds for these steps.
    """
    cond_steps = num_steps if known is None else known.shape[1]
    state = prior.init_state(batch, (cond_steps, *inner_shape), cond)
    if state is None:
        raise ValueError(
            "this prior has no step-by-step state, so it does not support streaming; generate a "
            "grid of fixed size"
        )
    if known is not None:
        state.prefill(known.to(prior.device), cond_steps * math.prod(inner_shape))
    return state


def _check_known(
    known: Tensor,
    batch: int,
    inner_shape: tuple[int, ...],
    codebook_shape: tuple[int, ...],
    codebook_size: int,
) -> None:
    is_valid = known.ndim == 2 + len(inner_shape) + len(codebook_shape) and is_integer(known)
    if not is_valid or (known.shape[0], *known.shape[2:]) != (batch, *inner_shape, *codebook_shape):
        raise ValueError(
            f"known must be integers "
            f"[{batch}, steps, {', '.join(map(str, (*inner_shape, *codebook_shape)))}], "
            f"got {known.dtype} {list(known.shape)}"
        )
    check_codes("known codes", known.long(), codebook_size)
