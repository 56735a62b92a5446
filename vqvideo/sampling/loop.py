"""The sampling loop over the groups of a prior's order, and fixed-point iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.sampling.gumbel_max import NOISE_CHUNK_SIZE, GumbelNoise, SamplingParams
from vqvideo.sampling.states import AutoregressiveModel, FusedSampler, PriorState

SamplingMethod = Literal["auto", "fused", "cached", "full", "fixed_point"]
ProgressCallback = Callable[[int, int], None]


def fused_sampler(
    prior_state: PriorState, method: SamplingMethod, sampling: SamplingParams
) -> FusedSampler | None:
    """Return the fused sampler of a state, or None if the method excludes it or, with "auto", if
    it is not available.

    Raises:
        ValueError: the method is "fused", but the fused sampler is not available.
    """
    if method not in ("auto", "fused"):
        return None
    try:
        if sampling.top_k is not None or sampling.top_p not in (None, 1):
            raise ValueError("it does not support top_k and top_p")
        return prior_state.build_fused_sampler()
    except ValueError as error:
        if method == "auto":
            return None
        raise ValueError(
            f"the fused sampler is not available: {error}; use method='auto'"
        ) from error


class SamplingState(NamedTuple):
    """State of a sampling loop.

    Attributes:
        prior: prior that gives the order of the codes.
        sampling: sampling parameters.
        codes: codes `[b, *shape]`, which the loop fills in place.
        known_mask: bool `[n]` over the flattened shape; true where codes are known and kept.
        noise: Gumbel noise.
        progress: callback, called with (number of codes done, total number of codes).
        log_prob: `[b]`, to which the log-probability of the sampled codes is added; None skips it.
    """

    prior: AutoregressiveModel
    sampling: SamplingParams
    codes: Tensor
    known_mask: Tensor
    noise: GumbelNoise
    progress: ProgressCallback | None = None
    log_prob: Tensor | None = None

    def report(self, num_done: int) -> None:
        """Call the progress callback."""
        if self.progress is not None:
            self.progress(num_done, len(self.known_mask))

    def add_log_prob(self, logits: Tensor, codes: Tensor) -> None:
        """Add the log-probability of codes `[b, ...]` under unfiltered logits `[b, ..., K]`."""
        if self.log_prob is not None:
            log_probs = logits.double().log_softmax(dim=-1).gather(-1, codes[..., None])
            self.log_prob.add_(log_probs.flatten(1).sum(dim=1).to(self.log_prob.device))


def sample_loop(
    task: SamplingState, prior_state: PriorState, sampler: FusedSampler | None = None
) -> Tensor:
    """Sample in the prior's order, and return the codes: one by one in raster order, or a whole
    group at once.

    Known codes at the end, and groups of known codes, are not evaluated.
    """
    order, total = task.prior.order(tuple(task.codes.shape[1:])), len(task.known_mask)
    if isinstance(order, range):
        num_done = _sample_in_raster_order(task, prior_state, sampler)
    else:
        num_done = _sample_groups(task, prior_state, order)
    if num_done < total or not total:
        task.report(total)
    return task.codes


def _sample_in_raster_order(
    task: SamplingState, prior_state: PriorState, sampler: FusedSampler | None
) -> int:
    """Sample code by code, up to the last one that is not known; return its index plus 1.

    Known codes at the start are prefilled in one pass.
    """
    flat, is_known = task.codes.flatten(1), task.known_mask.tolist()
    end = len(is_known) - is_known[::-1].index(False) if False in is_known else 0
    num_prefilled = (is_known.index(False) if end else 0) // task.prior.num_codebooks
    index = num_prefilled * task.prior.num_codebooks
    if num_prefilled:
        prior_state.prefill(task.codes, num_prefilled)
        task.noise.skip(index)
        task.report(index)
    while index < end:
        if sampler and not is_known[index]:
            window = is_known[index : min(end, index + NOISE_CHUNK_SIZE)]
            noise = task.noise.peek(window.index(True) if True in window else len(window))
            codes = flat[0, index : index + len(noise)]
            num_sampled = sampler.sample(noise[:, 0], task.sampling, codes)
            index += num_sampled
            task.noise.skip(num_sampled)
            task.report(index)
            if num_sampled:
                continue
        codes = flat.select(1, index)
        if is_known[index]:
            task.noise.skip(1)
        else:
            logits = prior_state.logits()
            codes.copy_(task.sampling.sample(logits, task.noise.next()))
            task.add_log_prob(logits, codes)
        prior_state.push(codes)
        index += 1
        task.report(index)
    return index


def _sample_groups(task: SamplingState, prior_state: PriorState, order: Sequence[Tensor]) -> int:
    """Sample group by group, the unknown codes of a group at once; return the number of codes."""
    flat, noise, num_done = task.codes.flatten(1), task.noise.read(len(task.known_mask)), 0
    for group in order:
        unknown = ~task.known_mask[group]
        if unknown.any():
            logits = prior_state.logits()[:, unknown]
            codes = task.sampling.sample(logits, noise[:, group[unknown]])
            flat[:, group[unknown]] = codes
            task.add_log_prob(logits, codes)
        prior_state.push(flat[:, group])
        num_done += len(group)
        task.report(num_done)
    return num_done


def sample_fixed_point(task: SamplingState, cond: Cond | None) -> Tensor:
    """Resample all codes until none changes, and return the codes.

    After n iterations the first n groups of the order are final, so the loop ends after at most as
    many iterations as there are codes, plus one.

    Raises:
        RuntimeError: no fixed point is reached, so the prior is not causal.
    """
    codes, total = task.codes.flatten(1), len(task.known_mask)
    noise, is_known = task.noise.read(total), task.known_mask.to(codes.device)
    for _ in range(total + 1):
        logits = task.prior.logits(codes.view_as(task.codes), cond).flatten(2).movedim(1, 2)
        new_codes = torch.where(is_known, codes, task.sampling.sample(logits, noise))
        task.report(int((new_codes == codes).all(dim=0).long().cumprod(dim=0).sum()))
        if torch.equal(new_codes, codes):
            task.add_log_prob(logits[:, ~is_known], codes[:, ~is_known])
            return task.codes.copy_(codes.view_as(task.codes))
        codes = new_codes
    raise RuntimeError(
        f"no fixed point after {total + 1} iterations: a logit depends on its own or a later code; "
        f"run vqvideo.testing.check_prior to find which"
    )
