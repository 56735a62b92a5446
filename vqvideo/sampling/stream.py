"""Streaming sampling: codes of one step along the first axis at a time, without limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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
    check_count("batch", batch)
    if conds is None:
        _check_constant(cond)
    codebook_axis = (prior.num_codebooks,) if prior.num_codebooks > 1 else ()
    step_shape = (batch, *inner_shape, *codebook_axis)
    _check_prior(prior, tuple(inner_shape), step_shape)
    if isinstance(temperature, Iterable):
        temperatures, temperature = temperature, 1.0
    else:
        temperatures = itertools.repeat(temperature)
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    sampling.check(prior.codebook_size)
    code_prior: AutoregressiveModel = eval_view(prior)
    if guidance_scale is not None:
        code_prior = apply_guidance(code_prior, guidance_scale, cond if conds is None else conds)
    known = None if known is None else _check_known(known, step_shape, prior.codebook_size)
    noise = GumbelNoise(seed, batch, prior.codebook_size, prior.device)
    noise.skip(0 if known is None else known[0].numel())
    chunks = _ChunkSampler(code_prior, step_shape, sampling, method, noise, known)
    return chunks.sample(temperatures, cond, conds)


class _ChunkSampler(NamedTuple):
    """Sampler of chunks of steps along the first axis.

    Attributes:
        prior: prior, with guidance.
        step_shape: shape of the codes of a step, `[b, *inner_shape(, s)]`.
        sampling: sampling parameters, apart from the temperature.
        method: "auto", "fused" or "cached".
        noise: Gumbel noise of the steps that are not known.
        known: codes of the known steps; None if there are none.
    """

    prior: AutoregressiveModel
    step_shape: tuple[int, ...]
    sampling: SamplingParams
    method: SamplingMethod
    noise: GumbelNoise
    known: Tensor | None

    def sample(
        self, temperatures: Iterable[float], cond: Cond | None, conds: Iterable[Cond] | None
    ) -> Iterator[Tensor]:
        """Yield the chunks; `cond` holds for the known steps and, without `conds`, for all."""
        state: PriorState | None = None
        batch, *step_shape = self.step_shape
        chunk_conds = itertools.repeat(cond) if conds is None else conds
        for chunk_cond, temperature in zip(chunk_conds, temperatures, strict=False):
            local = None if conds is None or chunk_cond is None else chunk_cond.local
            num_steps = 1 if local is None else local.shape[2]
            codes = torch.zeros(
                batch, num_steps, *step_shape, dtype=torch.int64, device=self.prior.device
            )
            known_mask = torch.zeros(codes[0].numel(), dtype=torch.bool)
            sampling = replace(self.sampling, temperature=temperature)
            task = SamplingState(self.prior, sampling, codes, known_mask, self.noise)
            with torch.inference_mode():
                is_conditioned = conds is None or (state is None and self.known is None)
                if state is None:
                    state = self.init_state(num_steps, chunk_cond if self.known is None else cond)
                    sampler = fused_sampler(state, self.method, self.sampling)
                if not is_conditioned:
                    state.set_condition(chunk_cond, num_steps)
                sample_loop(task, state, sampler)
            yield codes

    def init_state(self, num_steps: int, cond: Cond | None) -> PriorState:
        """Return a state after the known steps; without known steps, before the first `num_steps`.

        `cond` holds for these steps.
        """
        prior, known = self.prior, self.known
        grid = (num_steps if known is None else known.shape[1], *self.step_shape[1 : prior.rank])
        state = prior.init_state(self.step_shape[0], grid, cond)
        if state is None:
            raise ValueError(
                "this prior has no step-by-step state, so it does not support streaming; generate "
                "a grid of fixed size"
            )
        if known is not None:
            state.prefill(known.to(prior.device), math.prod(grid))
        return state


def _check_constant(cond: Cond | None) -> None:
    if cond is not None and (cond.actions is not None or cond.local is not None):
        raise ValueError(
            "actions and local maps vary from step to step: pass the following steps as conds, one "
            "Cond for each step; cond is for the known steps"
        )


def _check_prior(
    prior: GenerativePrior, inner_shape: tuple[int, ...], step_shape: tuple[int, ...]
) -> None:
    """Raise `ValueError` unless the prior supports streaming of steps of this shape."""
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
    if len(inner_shape) != prior.rank - 1:
        raise ValueError(f"inner_shape must have {prior.rank - 1} axes, got {inner_shape}")
    if not isinstance(prior.order((1, *step_shape[1:])), range):
        raise ValueError(
            "this prior samples groups of codes all over its grid, so it does not support "
            "streaming; generate a grid of fixed size"
        )


def _check_known(known: Tensor, step_shape: tuple[int, ...], codebook_size: int) -> Tensor | None:
    """Return known codes as int64, None for no steps; raise `ValueError` for invalid ones."""
    check_tensor("known", known)
    if known.shape[1:2] == (0,):
        return None
    batch, *shape = step_shape
    is_valid = known.ndim == 1 + len(step_shape) and is_integer(known)
    if not is_valid or (known.shape[0], *known.shape[2:]) != step_shape:
        raise ValueError(
            f"known must be integers [{batch}, steps, {', '.join(map(str, shape))}], "
            f"got {known.dtype} {list(known.shape)}"
        )
    known = known.long()
    check_codes("known codes", known, codebook_size)
    return known
