"""Laws of the codes that are sampled from a prior."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from vqvideo.sampling import SamplingMethod, generate
from vqvideo.testing.grids import (
    GRIDS,
    MICRO_GRIDS,
    SMALL_GRIDS,
    TINY_GRIDS,
    TWO_POSITION_GRIDS,
    format_mismatch,
)
from vqvideo.testing.prior_setup import Build, build_noisy_prior, get_code_shape, make_random_codes

REFERENCE = "vqvideo.sampling.generate"

NUM_MASKS = 12  # random masks of known codes: a faulty cache can be right for most
NUM_SAMPLES = 1200
MIN_P_VALUE = 1e-4  # probability of a false alarm


@torch.no_grad()
def codes_are_sampled_with_their_exact_probabilities(build: Build, rank: int) -> None:
    """Sampled codes follow the exact probabilities of all grids of a tiny shape (chi-square test):
    freely, at temperature 0.7, with top_k 2, and with a known code.
    """
    prior = build_noisy_prior(build, rank, codebook_size=3)
    grid = TWO_POSITION_GRIDS[rank] if prior.num_codebooks > 1 else MICRO_GRIDS[rank]
    shape = get_code_shape(prior, grid)
    grids = torch.tensor(list(itertools.product(range(3), repeat=math.prod(shape))))
    logits = prior.logits(grids.view(-1, *shape)).flatten(2).movedim(1, 2)
    place_values = 3 ** torch.arange(grids.shape[1]).flip(0)
    second = (torch.arange(grids.shape[1]) == 1).view(shape)
    known = {"known": torch.full((NUM_SAMPLES, *shape), 2), "mask": second}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("freely", {}),
        ("at temperature 0.7", {"temperature": 0.7}),
        ("with top_k 2", {"top_k": 2}),
        ("around a known code", known),
    ]
    for label, options in cases:
        probs = _compute_exact_probabilities(grids, logits, **options)
        codes = generate(prior, grid, batch=NUM_SAMPLES, seed=rank, **options)
        counts = torch.bincount(codes.flatten(1) @ place_values, minlength=len(grids)).double()
        assert not counts[probs == 0].any(), (
            f"rank {rank}: codes sampled {label} include codes of probability 0"
        )
        p_value = _chi_square_p_value(counts, NUM_SAMPLES * probs)
        assert p_value > MIN_P_VALUE, (
            f"rank {rank}: codes sampled {label} do not follow their probabilities (chi-square "
            f"test, p = {p_value:.1e})"
        )


def _compute_exact_probabilities(
    grids: Tensor,
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 3,
    known: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the probabilities `[n]` of code grids `[n, N]`, given their logits `[n, N, K]`."""
    threshold = logits.topk(top_k, dim=-1).values[..., -1:]
    logits = (logits / temperature).masked_fill(logits < threshold, -math.inf)
    probs = logits.softmax(dim=-1).gather(-1, grids[..., None]).squeeze(-1).double()
    if known is not None and mask is not None:
        flat_mask = mask.flatten()
        probs[:, flat_mask] = (grids[:, flat_mask] == known[0].flatten()[flat_mask]).double()
    probs = probs.prod(dim=1)
    assert abs(probs.sum().item() - 1) < 1e-6, "the exact probabilities do not sum to 1"
    return probs


def _chi_square_p_value(counts: Tensor, expected: Tensor) -> float:
    """Return the p-value of a chi-square test; cells expected fewer than 5 times are merged."""
    rare = expected < 5
    pairs = [
        torch.cat([x[~rare], x[rare].sum()[None]]) if expected[rare].sum() else x[~rare]
        for x in (counts, expected)
    ]
    statistic = ((pairs[0] - pairs[1]) ** 2 / pairs[1]).sum()
    dof = torch.tensor(len(pairs[0]) - 1.0, dtype=statistic.dtype)
    return float(torch.special.gammaincc(dof / 2, statistic / 2))


def all_methods_draw_the_same_codes(build: Build, rank: int) -> None:
    """Cached, full and fixed-point sampling give the same codes, with and without known codes. A
    sample does not depend on the rest of its batch.
    """
    prior = build_noisy_prior(build, rank)
    grid = GRIDS[rank]
    shape = get_code_shape(prior, grid)
    for trial in range(NUM_MASKS):
        known, mask = torch.randint(5, (3, *shape)), torch.rand(shape) < 0.4
        if trial == 0:
            mask[:] = False  # free samples
        if trial == 1:
            mask[0] = True  # a whole known frame, for rank 3
        options: dict[str, Any] = {"known": known, "mask": mask, "seed": trial}
        fixed_point = generate(prior, grid, batch=3, method="fixed_point", **options)
        for method in ("auto", "full") if trial < 2 else ("auto",):
            other = generate(prior, grid, batch=3, method=method, **options)
            assert torch.equal(other, fixed_point), (
                f"rank {rank}: {method} and fixed-point sampling differ in "
                f"{format_mismatch(other, fixed_point)} codes"
            )
        changed = format_mismatch(fixed_point[:, mask], known[:, mask])
        assert changed.startswith("0 "), f"rank {rank}: {changed} known codes were changed"
    full_batch = generate(prior, grid, batch=3, seed=4)
    for batch in (1, 2):
        smaller = generate(prior, grid, batch=batch, seed=4)
        assert torch.equal(smaller, full_batch[:batch]), (
            f"rank {rank}: a sample depends on its batch: "
            f"{format_mismatch(smaller, full_batch[:batch])} codes differ between a batch of 3 and "
            f"a batch of {batch}"
        )


def a_fused_step_draws_the_same_codes(build: Build, rank: int) -> None:
    """Fused sampling, if the state supports it, gives the same codes as cached sampling."""
    prior = build_noisy_prior(build, rank).float()
    grid = GRIDS[rank]
    state = prior.init_state(1, grid, None)
    try:
        if state is None or not state.build_fused_sampler():
            return
    except ValueError:
        return
    mask = torch.rand(get_code_shape(prior, grid)) < 0.3
    known = make_random_codes(prior, 1, grid)
    for options in ({}, {"temperature": 0.7}, {"temperature": 0}, {"known": known, "mask": mask}):
        fused, cached = (
            generate(prior, grid, method=method, seed=rank, **options)
            for method in ("fused", "cached")
        )
        assert torch.equal(fused, cached), (
            f"rank {rank}: fused and cached sampling differ in {format_mismatch(fused, cached)} "
            f"codes" + (f" with {', '.join(options)}" if options else "")
        )


@torch.no_grad()
def filters_select_the_right_codes(build: Build, rank: int) -> None:
    """Temperature 0 and top_k=1 take the most probable code given the earlier ones; top_k=K and
    top_p=1 change nothing. This holds for all methods.
    """
    prior = build_noisy_prior(build, rank)
    grid = TINY_GRIDS[rank]
    best = torch.zeros(2, *get_code_shape(prior, grid), dtype=torch.int64)
    for group in prior.order(tuple(best.shape[1:])):
        best.flatten(1)[:, group] = prior.logits(best).flatten(2)[..., group].argmax(dim=1)
    plain = generate(prior, grid, batch=2, seed=2)
    for method in ("auto", "full", "fixed_point"):
        for options, expected in (
            ({"temperature": 0.0}, best),
            ({"top_k": 1}, best),
            ({"top_k": prior.codebook_size}, plain),
            ({"top_p": 1.0}, plain),
        ):
            codes = generate(prior, grid, batch=2, seed=2, method=method, **options)
            assert torch.equal(codes, expected), (
                f"rank {rank}: {method} sampling with {options} does not give "
                + ("the unfiltered sample" if expected is plain else "the most probable codes")
            )


@torch.no_grad()
def the_reported_log_prob_is_that_of_the_codes(build: Build, rank: int) -> None:
    """`generate` reports the `log_prob` of its samples, at any temperature."""
    prior = build_noisy_prior(build, rank)
    grid = SMALL_GRIDS[rank]
    cases: list[tuple[SamplingMethod, float]] = [
        ("auto", 1.0),
        ("auto", 0.7),
        ("full", 1.0),
        ("fixed_point", 1.0),
    ]
    for method, temperature in cases:
        reported = torch.zeros(2, dtype=torch.float64)
        codes = generate(
            prior, grid, batch=2, temperature=temperature, method=method, log_prob=reported
        )
        log_probs = prior.logits(codes).flatten(2).log_softmax(dim=1)
        expected = log_probs.gather(1, codes.flatten(1)[:, None]).double().sum(dim=(1, 2))
        difference = (reported - expected).abs().max().item()
        assert difference < 1e-9, (
            f"rank {rank}: {method} sampling at temperature {temperature} reports a log_prob that "
            f"is {difference:.1e} nats off"
        )
