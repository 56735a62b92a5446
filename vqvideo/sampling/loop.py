"""The sampling loops: over positions, and over fixed-point iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo.sampling.gumbel_max import NOISE_CHUNK_SIZE, GumbelNoise, SamplingParams
from vqvideo.sampling.states import FusedSampler, PriorState

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
        sampling: sampling parameters.
        codes: codes `[b, *shape]`, which the loop fills in place.
        known_mask: bool `[n]` over the flattened shape; true where codes are known and kept.
        noise: Gumbel noise.
        progress: callback, called with (number of codes done, total number of codes).
        log_prob: `[b]`, to which the log-probability of the sampled codes is added; None skips it.
    """

    sampling: SamplingParams
    codes: Tensor
    known_mask: Tensor
    noise: GumbelNoise
    progress: ProgressCallback
    log_prob: Tensor | None = None

    def add_log_prob(self, logits: Tensor, codes: Tensor) -> None:
        """Add the log-probability of codes `[b, ...]` under unfiltered logits `[b, ..., K]`."""
        if self.log_prob is not None:
            log_probs = logits.double().log_softmax(dim=-1).gather(-1, codes[..., None])
            self.log_prob.add_(log_probs.flatten(1).sum(dim=1).to(self.log_prob.device))


def sample_loop(
    sampling_state: SamplingState,
    prior_state: PriorState,
    sampler: FusedSampler | None,
    num_codebooks: int,
) -> Tensor:
    """Sample code by code, and return the codes.

    Known codes at the start are prefilled in one pass; known codes at the end are not evaluated.
    """
    flat_codes, is_known = sampling_state.codes.flatten(1), sampling_state.known_mask.tolist()
    total, end = len(is_known), _find_sampling_end(is_known)
    num_prefilled = (is_known.index(False) if end else 0) // num_codebooks
    index = num_prefilled * num_codebooks
    if num_prefilled:
        prior_state.prefill(sampling_state.codes, num_prefilled)
        sampling_state.noise.skip(index)
        sampling_state.progress(index, total)
    while index < end:
        if sampler and not is_known[index]:
            window = is_known[index : min(end, index + NOISE_CHUNK_SIZE)]
            noise = sampling_state.noise.peek(window.index(True) if True in window else len(window))
            num_sampled = sampler.sample(
                noise[:, 0], sampling_state.sampling, flat_codes[0, index : index + len(noise)]
            )
            index += num_sampled
            sampling_state.noise.skip(num_sampled)
            sampling_state.progress(index, total)
            if num_sampled:
                continue
        codes = flat_codes.select(1, index)
        if not is_known[index]:
            logits = prior_state.logits()
            codes.copy_(sampling_state.sampling.sample(logits, sampling_state.noise.next()))
            sampling_state.add_log_prob(logits, codes)
        else:
            sampling_state.noise.skip(1)
        prior_state.push(codes)
        index += 1
        sampling_state.progress(index, total)
    if index < total or not total:
        sampling_state.progress(total, total)
    return sampling_state.codes


def _find_sampling_end(known_mask: list[bool]) -> int:
    """Return the index after the last code to sample, 0 if all codes are known."""
    return len(known_mask) - known_mask[::-1].index(False) if False in known_mask else 0


def sample_fixed_point(
    sampling_state: SamplingState, compute_logits: Callable[[Tensor], Tensor]
) -> Tensor:
    """Resample all codes until none changes, and return the codes.

    After n iterations the first n codes are final, so the loop ends after at most as many
    iterations as there are codes, plus one.

    Raises:
        RuntimeError: no fixed point is reached, so the prior is not causal.
    """
    codes, total = sampling_state.codes.flatten(1), len(sampling_state.known_mask)
    noise_steps = []
    for _ in range(total):
        noise_steps.append(sampling_state.noise.next())
    noise, is_known = torch.stack(noise_steps, dim=1), sampling_state.known_mask.to(codes.device)
    for _ in range(total + 1):
        logits = compute_logits(codes.view_as(sampling_state.codes)).flatten(2).movedim(1, 2)
        new_codes = sampling_state.sampling.sample(logits, noise)
        new_codes = torch.where(is_known, codes, new_codes)
        sampling_state.progress(
            int((new_codes == codes).all(dim=0).long().cumprod(dim=0).sum()), total
        )
        if torch.equal(new_codes, codes):
            sampling_state.add_log_prob(logits[:, ~is_known], codes[:, ~is_known])
            return sampling_state.codes.copy_(codes.view_as(sampling_state.codes))
        codes = new_codes
    raise RuntimeError(
        f"no fixed point after {total + 1} iterations: a logit depends on its own or a later code; "
        f"run vqvideo.testing.check_prior to find which"
    )
