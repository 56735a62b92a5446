"""Laws of priors that sample latents before codes."""

from __future__ import annotations

import torch

from vqvideo.sampling import generate
from vqvideo.testing.grids import SMALL_GRIDS, format_mismatch
from vqvideo.testing.prior_setup import (
    Build,
    build_noisy_prior,
    iter_conditioned_priors,
    make_cond,
    make_random_codes,
)

REFERENCE = "vqvideo.priors.Prior"


def codes_are_sampled_given_seeded_latents(build: Build, rank: int) -> None:
    """`generate` samples from `code_prior` conditioned on `sample_latents`, with every method. A
    sample does not depend on the rest of its batch, and other seeds give other latents.
    """
    prior, grid = build_noisy_prior(build, rank), SMALL_GRIDS[rank]
    codes = generate(prior, grid, batch=3, seed=4)
    cond = prior.sample_latents(3, grid, seed=4)
    expected = generate(prior.code_prior, grid, batch=3, cond=cond, seed=4)
    assert torch.equal(codes, expected), (
        f"rank {rank}: generate does not sample from code_prior conditioned on sample_latents: "
        f"{format_mismatch(codes, expected)} codes differ"
    )
    for method in ("full", "fixed_point"):
        other = generate(prior, grid, batch=3, seed=4, method=method)
        assert torch.equal(other, codes), (
            f"rank {rank}: {format_mismatch(other, codes)} codes differ with {method} sampling"
        )
    single = generate(prior, grid, batch=1, seed=4)
    assert torch.equal(single, codes[:1]), (
        f"rank {rank}: a sample depends on its batch: {format_mismatch(single, codes[:1])} codes "
        f"differ"
    )
    modes = [
        prior.sample_latents(2, grid, seed=seed, temperature=0.0).local  # type: ignore[union-attr]
        for seed in (4, 5)
    ]
    assert torch.equal(*modes), f"rank {rank}: latents depend on the seed at temperature 0"  # type: ignore[arg-type]
    samples = [prior.sample_latents(8, grid, seed=seed).local for seed in (4, 5)]  # type: ignore[union-attr]
    assert not torch.equal(*samples), f"rank {rank}: every seed gives the same latents"  # type: ignore[arg-type]


@torch.no_grad()
def the_bound_does_not_depend_on_the_batch(build: Build, rank: int) -> None:
    """The bound of an item does not depend on its batch, but it does depend on conditions."""
    prior = build_noisy_prior(build, rank)
    codes = make_random_codes(prior, 3, SMALL_GRIDS[rank])
    batched, single = prior.log_prob(codes), prior.log_prob(codes[1:2])
    assert torch.allclose(batched[1:2], single), (
        f"rank {rank}: the bound depends on the batch: {batched[1].item():.6f} nats in it, "
        f"{single[0].item():.6f} alone"
    )
    for kind, conditioned in iter_conditioned_priors(build, rank):
        cond = make_cond(conditioned, 3, SMALL_GRIDS[rank])
        assert not torch.equal(conditioned.log_prob(codes, cond), conditioned.log_prob(codes)), (
            f"rank {rank}: {kind} does not change the bound"
        )


@torch.no_grad()
def log_prob_includes_the_latent_term(build: Build, rank: int) -> None:
    """`log_prob` includes the term of the latents under their own prior: it is below the
    log-softmax of the logits at the codes, by more than 0.5 nats on average.
    """
    gaps = []
    for trial in range(4):
        prior = build_noisy_prior(build, rank, trial=trial)
        codes = make_random_codes(prior, 8, SMALL_GRIDS[rank])
        log_probs = prior.logits(codes).log_softmax(dim=1).gather(1, codes[:, None])
        gaps.append((log_probs.flatten(1).sum(dim=1) - prior.log_prob(codes)).mean())
    gap = torch.stack(gaps).mean().item()
    assert gap > 0.5, (
        f"rank {rank}: log_prob counts {gap:.3f} nats for latents; it must include their NLL "
        f"under the prior of the latents"
    )
