"""Laws of priors that draw latents before codes."""

from __future__ import annotations

import torch

from vqvideo.sampling import generate
from vqvideo.testing.grids import SMALL_GRIDS, share
from vqvideo.testing.prior_setup import Build, drawn_codes, redrawn, told, with_conditions

READ = "vqvideo.priors.Prior"


def codes_are_drawn_given_latents_that_the_seed_decides(build: Build, rank: int) -> None:
    """`generate` draws what `drawn_from` draws that is told the latents, by every method; a sample
    does not depend on its neighbours in the batch, and other seeds give other latents.
    """
    prior, grid = redrawn(build, rank), SMALL_GRIDS[rank]
    drawn = generate(prior, grid, batch=3, seed=4)
    cond = prior.draw_latents(3, grid, seed=4)
    beside = generate(prior.drawn_from, grid, batch=3, cond=cond, seed=4)
    assert torch.equal(drawn, beside), (
        f"rank {rank}: generate does not draw what drawn_from draws, told of draw_latents: "
        f"{share(drawn, beside)} codes differ"
    )
    for method in ("full", "fixed_point"):
        other = generate(prior, grid, batch=3, seed=4, method=method)
        assert torch.equal(other, drawn), (
            f"rank {rank}: {method} sampling draws {share(other, drawn)} codes otherwise"
        )
    alone = generate(prior, grid, batch=1, seed=4)
    assert torch.equal(alone, drawn[:1]), (
        f"rank {rank}: a sample depends on its batch: {share(alone, drawn[:1])} codes differ"
    )
    coldest = [
        prior.draw_latents(2, grid, seed=seed, temperature=0.0).local  # type: ignore[union-attr]
        for seed in (4, 5)
    ]
    assert torch.equal(*coldest), f"rank {rank}: at temperature 0 seeds still decide the latents"  # type: ignore[arg-type]
    locals_ = [prior.draw_latents(8, grid, seed=seed).local for seed in (4, 5)]  # type: ignore[union-attr]
    assert not torch.equal(*locals_), f"rank {rank}: every seed draws the same latents"  # type: ignore[arg-type]


@torch.no_grad()
def latents_are_of_the_codes_alone(build: Build, rank: int) -> None:
    """The bound of an item does not depend on its batch, and conditions reach it."""
    prior = redrawn(build, rank)
    codes = drawn_codes(prior, 3, SMALL_GRIDS[rank])
    whole, alone = prior.log_prob(codes), prior.log_prob(codes[1:2])
    assert torch.allclose(whole[1:2], alone), (
        f"rank {rank}: the bound depends on the batch: {whole[1].item():.6f} nats in it, "
        f"{alone[0].item():.6f} alone"
    )
    for kind, conditioned in with_conditions(build, rank):
        cond = told(conditioned, 3, SMALL_GRIDS[rank])
        assert not torch.equal(conditioned.log_prob(codes, cond), conditioned.log_prob(codes)), (
            f"rank {rank}: {kind} changes nothing"
        )


@torch.no_grad()
def latents_have_a_price(build: Build, rank: int) -> None:
    """`log_prob` lies below what its logits give the codes, by at least half a nat in the mean: of
    latents that are drawn from several, some must be paid for.
    """
    paid = []
    for draw in range(4):
        prior = redrawn(build, rank, draw=draw)
        codes = drawn_codes(prior, 8, SMALL_GRIDS[rank])
        given = prior.logits(codes).log_softmax(dim=1).gather(1, codes[:, None])
        paid.append((given.flatten(1).sum(dim=1) - prior.log_prob(codes)).mean())
    price = torch.stack(paid).mean().item()
    assert price > 0.5, (
        f"rank {rank}: log_prob counts {price:.3f} nats for latents; it must count what their own "
        f"prior asks for them"
    )
