"""Laws of priors that draw latents before codes."""

from __future__ import annotations

import torch

from vqvideo.sampling import generate
from vqvideo.testing.grids import SMALL_GRIDS
from vqvideo.testing.prior_setup import Build, drawn_codes, redrawn, told, with_conditions


def codes_are_drawn_given_latents_that_the_seed_decides(build: Build, rank: int) -> None:
    """`generate` draws what `drawn_from` draws that is told the latents, by every method; a sample
    does not depend on its neighbours in the batch, and other seeds give other latents.
    """
    prior, grid = redrawn(build, rank), SMALL_GRIDS[rank]
    drawn = generate(prior, grid, batch=3, seed=4)
    cond = prior.draw_latents(3, grid, seed=4)
    beside = generate(prior.drawn_from, grid, batch=3, cond=cond, seed=4)
    assert torch.equal(drawn, beside), (
        f"rank {rank}: generate does not draw what drawn_from draws, told of draw_latents"
    )
    for method in ("full", "fixed_point"):
        other = generate(prior, grid, batch=3, seed=4, method=method)
        assert torch.equal(other, drawn), f"rank {rank}: {method} sampling draws other codes"
    alone = generate(prior, grid, batch=1, seed=4)
    assert torch.equal(alone, drawn[:1]), f"rank {rank}: a sample depends on its batch"
    locals_ = [prior.draw_latents(8, grid, seed=seed).local for seed in (4, 5)]  # type: ignore[union-attr]
    assert not torch.equal(*locals_), f"rank {rank}: every seed draws the same latents"  # type: ignore[arg-type]


@torch.no_grad()
def latents_are_of_the_codes_alone(build: Build, rank: int) -> None:
    """The bound of an item does not depend on its batch, and conditions reach it."""
    codes = drawn_codes(redrawn(build, rank), 3, SMALL_GRIDS[rank])
    prior = redrawn(build, rank)
    whole, alone = prior.log_prob(codes), prior.log_prob(codes[1:2])
    assert torch.allclose(whole[1:2], alone), f"rank {rank}: the bound depends on the batch"
    for kind, conditioned in with_conditions(build, rank):
        cond = told(conditioned, 3, SMALL_GRIDS[rank])
        assert not torch.equal(conditioned.log_prob(codes, cond), conditioned.log_prob(codes)), (
            f"rank {rank}: {kind} changes nothing"
        )
