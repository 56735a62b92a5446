"""Laws of the codes that are drawn from a prior."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from vqvideo.sampling import Method, generate
from vqvideo.testing.grids import FEW_GRIDS, FEWEST_GRIDS, GRIDS, SMALL_GRIDS, TINY_GRIDS, share
from vqvideo.testing.prior_setup import Build, drawn_codes, redrawn, shape_of

READ = "vqvideo.sampling.generate"

MASKS = 12  # of known codes, at random: a cache can be right for most
SAMPLES = 1200
SUSPICIOUS = 1e-4  # how rarely right codes are taken for wrong ones


@torch.no_grad()
def codes_are_drawn_with_their_exact_probabilities(build: Build, rank: int) -> None:
    """Counts of all tiny grids fit the exact table (chi-square): free, tempered, of the two best
    codes, and with a known code.
    """
    prior = redrawn(build, rank, codebook_size=3)
    grid = FEWEST_GRIDS[rank] if prior.num_codebooks > 1 else FEW_GRIDS[rank]
    shape = shape_of(prior, grid)
    every = torch.tensor(list(itertools.product(range(3), repeat=math.prod(shape))))
    logits = prior.logits(every.view(-1, *shape)).flatten(2).movedim(1, 2)
    places = 3 ** torch.arange(every.shape[1]).flip(0)
    second = (torch.arange(every.shape[1]) == 1).view(shape)
    known = {"known": torch.full((SAMPLES, *shape), 2), "mask": second}
    ways: list[tuple[str, dict[str, Any]]] = [
        ("freely", {}),
        ("at temperature 0.7", {"temperature": 0.7}),
        ("with top_k 2", {"top_k": 2}),
        ("around a known code", known),
    ]
    for how, options in ways:
        shares = _exact_shares(every, logits, **options)
        drawn = generate(prior, grid, batch=SAMPLES, seed=rank, **options)
        counts = torch.bincount(drawn.flatten(1) @ places, minlength=len(every)).double()
        assert not counts[shares == 0].any(), f"rank {rank}: drawn {how}, a code is impossible"
        p = _chi_square(counts, SAMPLES * shares)
        assert p > SUSPICIOUS, (
            f"rank {rank}: codes drawn {how} do not have their probabilities (chi-square test, "
            f"p = {p:.1e})"
        )


def _exact_shares(
    every: Tensor,
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 3,
    known: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The probability of each of the grids `every` `[n, N]`, given their logits `[n, N, K]`."""
    least = logits.topk(top_k, dim=-1).values[..., -1:]
    logits = (logits / temperature).masked_fill(logits < least, -math.inf)
    shares = logits.softmax(dim=-1).gather(-1, every[..., None]).squeeze(-1).double()
    if known is not None and mask is not None:
        here = mask.flatten()
        shares[:, here] = (every[:, here] == known[0].flatten()[here]).double()
    shares = shares.prod(dim=1)
    assert abs(shares.sum().item() - 1) < 1e-6, "the exact table is wrong"
    return shares


def _chi_square(counts: Tensor, expected: Tensor) -> float:
    """How probable counts at least so far off are; rare cells are taken as one."""
    rare = expected < 5
    pairs = [
        torch.cat([x[~rare], x[rare].sum()[None]]) if expected[rare].sum() else x[~rare]
        for x in (counts, expected)
    ]
    distance = ((pairs[0] - pairs[1]) ** 2 / pairs[1]).sum()
    freedom = torch.tensor(len(pairs[0]) - 1.0, dtype=distance.dtype)
    return float(torch.special.gammaincc(freedom / 2, distance / 2))


def all_methods_draw_the_same_codes(build: Build, rank: int) -> None:
    """Cached, full and fixed-point sampling agree, freely and around known codes, and a sample
    does not depend on its neighbours in the batch.
    """
    prior = redrawn(build, rank)
    grid = GRIDS[rank]
    shape = shape_of(prior, grid)
    for trial in range(MASKS):
        known, mask = torch.randint(5, (3, *shape)), torch.rand(shape) < 0.4
        if trial == 0:
            mask[:] = False  # free samples
        if trial == 1:
            mask[0] = True  # a whole known frame, for rank 3
        given: dict[str, Any] = {"known": known, "mask": mask, "seed": trial}
        fixed_point = generate(prior, grid, batch=3, method="fixed_point", **given)
        for method in ("auto", "full") if trial < 2 else ("auto",):
            other = generate(prior, grid, batch=3, method=method, **given)
            assert torch.equal(other, fixed_point), (
                f"rank {rank}: {method} and fixed-point sampling differ in "
                f"{share(other, fixed_point)} codes"
            )
        changed = share(fixed_point[:, mask], known[:, mask])
        assert changed.startswith("0 "), f"rank {rank}: {changed} known codes were changed"
    together = generate(prior, grid, batch=3, seed=4)
    for batch in (1, 2):
        fewer = generate(prior, grid, batch=batch, seed=4)
        assert torch.equal(fewer, together[:batch]), (
            f"rank {rank}: a sample depends on its neighbours: {share(fewer, together[:batch])} "
            f"codes differ between a batch of 3 and one of {batch}"
        )


def a_fused_step_draws_the_same_codes(build: Build, rank: int) -> None:
    """Where the state offers a fused step, it draws what the state draws step by step."""
    prior = redrawn(build, rank).float()
    grid = GRIDS[rank]
    state = prior.start(1, grid, None)
    try:
        if state is None or not state.fused():
            return
    except ValueError:
        return
    mask = torch.rand(shape_of(prior, grid)) < 0.3
    known = drawn_codes(prior, 1, grid)
    for options in ({}, {"temperature": 0.7}, {"temperature": 0}, {"known": known, "mask": mask}):
        fused, cached = (
            generate(prior, grid, method=method, seed=rank, **options)
            for method in ("fused", "cached")
        )
        assert torch.equal(fused, cached), (
            f"rank {rank}: fused and cached sampling differ in {share(fused, cached)} codes"
            + (f" with {', '.join(options)}" if options else "")
        )


@torch.no_grad()
def filters_choose_as_they_say(build: Build, rank: int) -> None:
    """Temperature 0 and top_k=1 take the most probable code given those before; top_k=K and
    top_p=1 change nothing. With all methods.
    """
    prior = redrawn(build, rank)
    grid = TINY_GRIDS[rank]
    best = torch.zeros(2, *shape_of(prior, grid), dtype=torch.int64)
    for i in range(best[0].numel()):
        best.flatten(1)[:, i] = prior.logits(best).flatten(2)[..., i].argmax(dim=1)
    plain = generate(prior, grid, batch=2, seed=2)
    for method in ("auto", "full", "fixed_point"):
        for options, expected in (
            ({"temperature": 0.0}, best),
            ({"top_k": 1}, best),
            ({"top_k": prior.codebook_size}, plain),
            ({"top_p": 1.0}, plain),
        ):
            drawn = generate(prior, grid, batch=2, seed=2, method=method, **options)
            assert torch.equal(drawn, expected), (
                f"rank {rank}: {method} sampling with {options} is not "
                + ("plain sampling" if expected is plain else "taking the most probable codes")
            )


@torch.no_grad()
def the_log_prob_of_what_was_drawn_is_log_prob(build: Build, rank: int) -> None:
    """`generate` reports for free samples what `log_prob` says of them, at any temperature."""
    prior = redrawn(build, rank)
    grid = SMALL_GRIDS[rank]
    cases: list[tuple[Method, float]] = [
        ("auto", 1.0),
        ("auto", 0.7),
        ("full", 1.0),
        ("fixed_point", 1.0),
    ]
    for method, temperature in cases:
        reported = torch.zeros(2, dtype=torch.float64)
        drawn = generate(
            prior, grid, batch=2, temperature=temperature, method=method, log_prob=reported
        )
        nats = prior.logits(drawn).flatten(2).log_softmax(dim=1)
        expected = nats.gather(1, drawn.flatten(1)[:, None]).double().sum(dim=(1, 2))
        difference = (reported - expected).abs().max().item()
        assert difference < 1e-9, (
            f"rank {rank}: {method} sampling at temperature {temperature} reports a log_prob that "
            f"is {difference:.1e} nats off"
        )
