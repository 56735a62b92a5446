"""Drawing codes without end, one step along the first axis of the grid at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.modes import evaluating
from vqvideo.sampling.choice import GumbelNoise, Sampling
from vqvideo.sampling.states import (
    GivesLogits,
    PriorState,
    SamplesCodes,
    check_codes,
    is_integer,
    under_guidance,
)
from vqvideo.sampling.walk import Method, Task, drawer_of, walk


def stream(prior: SamplesCodes, inner: tuple[int, ...], **options: Any) -> Iterator[Tensor]:
    """Codes `[batch, *inner(, s)]` of one step along the first axis after the other: at rank 3 a
    frame, at rank 2 a row, at rank 1 a single code `[batch]`.

    The steps are those of `generate` on a longer grid: same seed, same codes, exactly, however many
    are asked for. Memory does not grow, where the prior looks back no further than its receptive
    field (`wavenet`, `pixelcnn`, `masked3d`); then what lies further back is forgotten, as it is by
    `generate`. Each step is drawn when it is asked for.

    Args:
        prior, inner, options: as `stream_blocks` takes them.

    Raises:
        ValueError: as `stream_blocks`.
    """
    blocks = stream_blocks(prior, inner, **options)
    return itertools.chain.from_iterable(block.unbind(1) for block in blocks)


def stream_blocks(
    prior: SamplesCodes,
    inner: tuple[int, ...],
    *,
    batch: int = 1,
    known: Tensor | None = None,
    cond: Cond | None = None,
    conds: Iterable[Cond] | None = None,
    temperature: float | Iterable[float] = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
    seed: int | Sequence[int] = 0,
    method: Method = "auto",
) -> Iterator[Tensor]:
    """What `stream` gives, as many steps `[batch, n, *inner(, s)]` at once as a condition is about.

    Args:
        prior: p(codes | cond).
        inner: sizes of the grid's axes but the first.
        batch: number of samples.
        known: codes `[batch, n, *inner(, s)]` of the first n steps; the steps after them come.
        cond: what holds for the known steps, and for all that follow if `conds` is None; so it may
            then hold nothing that differs from step to step.
        conds: what holds for the steps that follow, asked for when they begin, each for as many
            steps as its local map has, for one if it has none; the stream ends where they end. For
            what is known only as it comes.
        temperature: as for `generate`, or one for each condition, asked for after it: for what
            changes as it goes.
        top_k, top_p, guidance, seed, method: as for `generate`.

    Raises:
        ValueError: something does not fit, or the prior cannot go on; before the first step where
            it can be known by then.
    """
    if method not in ("auto", "fused", "cached"):
        raise ValueError(f"a stream is drawn by auto, fused or cached, not by {method!r}")
    if prior.drawn_from is not prior:
        raise ValueError(
            "this prior draws latents for a whole grid, so its codes do not go on without end; "
            "generate a grid of fixed size"
        )
    if not prior.endless:
        raise ValueError(
            "this prior is told the rows of its grids (coordinates) and knows none beyond; "
            "generate a grid of fixed size, or train one without coordinates"
        )
    if conds is None and cond is not None and (cond.actions is not None or cond.local is not None):
        raise ValueError(
            "actions and local maps differ from step to step: give those of the steps to come as "
            "conds, one Cond for each step; cond holds those of the known steps"
        )
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if isinstance(temperature, Iterable):
        sampling, temperatures = Sampling(top_k=top_k, top_p=top_p), temperature
    else:
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        temperatures = itertools.repeat(temperature)
    sampling.check(prior.codebook_size)
    guided = under_guidance(prior, guidance, cond if conds is None else conds)
    inner = tuple(inner)
    if len(inner) != prior.rank - 1:
        raise ValueError(f"inner must have {prior.rank - 1} axes, got {inner}")
    each = (prior.num_codebooks,) if prior.num_codebooks > 1 else ()
    if known is not None and known.shape[1:2] == (0,):
        known = None
    if known is not None:
        _check_known(known, batch, inner, each, prior.codebook_size)
    noise = GumbelNoise(seed, batch, prior.codebook_size, prior.device)
    noise.skip(0 if known is None else known[0].numel())

    def blocks() -> Iterator[Tensor]:
        state: PriorState | None = None
        each_told = itertools.repeat(cond) if conds is None else conds
        for told, warmth in zip(each_told, temperatures, strict=False):
            local = None if conds is None or told is None else told.local
            number = 1 if local is None else local.shape[2]
            shape = (batch, number, *inner, *each)
            codes = torch.zeros(shape, dtype=torch.int64, device=prior.device)
            free = torch.zeros(math.prod(shape[1:]), dtype=torch.bool)
            now = replace(sampling, temperature=warmth)
            task = Task(now, codes, free, noise, lambda done, total: None)
            with evaluating(prior), torch.inference_mode():
                begins = state is None
                if state is None:
                    at_first = told if known is None else cond
                    state = _begin(guided, batch, inner, known, number, at_first)
                    drawer = drawer_of(state, method, sampling)
                if conds is not None and not (begins and known is None):
                    state.tell(told, number)
                walk(task, state, drawer, prior.num_codebooks)
            yield codes

    return blocks()


def _begin(
    prior: GivesLogits,
    batch: int,
    inner: tuple[int, ...],
    known: Tensor | None,
    number: int,
    cond: Cond | None,
) -> PriorState:
    """The state behind the known steps, or before the first ones, so many, told `cond` of them."""
    steps = number if known is None else known.shape[1]
    state = prior.start(batch, (steps, *inner), cond)
    if state is None:
        raise ValueError(
            "this prior has no step-by-step state, so it cannot go on without end; generate a grid "
            "of fixed size"
        )
    if known is not None:
        state.prefill(known.to(prior.device), steps * math.prod(inner))
    return state


def _check_known(
    known: Tensor, batch: int, inner: tuple[int, ...], each: tuple[int, ...], codebook_size: int
) -> None:
    fits = known.ndim == 2 + len(inner) + len(each) and is_integer(known)
    if not fits or (known.shape[0], *known.shape[2:]) != (batch, *inner, *each):
        raise ValueError(
            f"known must be integers [{batch}, steps, {', '.join(map(str, (*inner, *each)))}], got "
            f"{known.dtype} {list(known.shape)}"
        )
    check_codes("known codes", known, codebook_size)
