"""The laws of priors."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.priors import Prior
from vqvideo.sampling import generate
from vqvideo.testing.grids import FEW_GRIDS, GRIDS, TINY_GRIDS, differing

MASKS = 20  # of known codes, at random: a cache can be right for most
DRAWS = 8  # a unit that is cut off for one draw of codes can hide a path, hardly for eight


def check_prior(build: Callable[..., Prior], rank: int, *, num_codebooks: int = 1) -> None:
    """All laws of a prior on grids of one rank.

    Args:
        build: called as `build(rank=..., codebook_size=...)`, and with `num_codebooks=...` where
            that is above 1; make it small (a few layers).
        rank: a rank that the prior supports.
        num_codebooks: codes per position.
    """
    if num_codebooks > 1:
        build = functools.partial(build, num_codebooks=num_codebooks)
    no_logit_sees_its_own_code_or_a_later_one(build, rank)
    every_code_in_the_receptive_field_is_seen(build, rank)
    probabilities_sum_to_one(build, rank)
    stepping_gives_the_logits_of_the_whole(build, rank)
    all_methods_draw_the_same_codes(build, rank)
    sampling_leaves_no_trace(build, rank)


def no_logit_sees_its_own_code_or_a_later_one(build: Callable[..., Prior], rank: int) -> None:
    """Changing codes from some position on changes no logit up to that position, to the bit."""
    prior = _redrawn(build, rank)
    codes = torch.randint(5, (1, *_shape(prior, GRIDS[rank])))
    logits = prior.logits(codes).flatten(2)
    assert logits.shape[:2] == (1, 5), f"logits must be [b, K, *grid], got {list(logits.shape)}"
    for i in range(codes.numel()):
        changed = codes.flatten(1).clone()
        changed[:, i:] = (changed[:, i:] + 1) % 5
        other = prior.logits(changed.view_as(codes)).flatten(2)
        same = (other == logits).all(dim=1)[0, : i + 1]
        assert same.all(), (
            f"rank {rank}: the logits at position {int((~same).nonzero()[0])} depend on the code "
            f"at position {i} or later; they must not"
        )


def every_code_in_the_receptive_field_is_seen(build: Callable[..., Prior], rank: int) -> None:
    """By gradient: each logit depends on every earlier code inside `receptive_field`, on none
    outside it and on no later one. (By change of code for a prior that embeds no codes.)
    """
    prior = _redrawn(build, rank)
    shape = _shape(prior, GRIDS[rank])
    positions = list(itertools.product(*map(range, shape)))
    seen = torch.zeros(len(positions), len(positions), dtype=torch.bool)
    for _ in range(DRAWS):
        seen |= _dependence(prior, torch.randint(5, (1, *shape)))
    field = prior.receptive_field
    for (i, here), (j, there) in itertools.product(enumerate(positions), repeat=2):
        offset = [a - b for a, b in zip(there, here, strict=True)][:rank]
        inside = field is None or not any(offset) or field.contains(offset)
        expected = there < here and inside
        assert bool(seen[i, j]) == expected, (
            f"rank {rank}: the logits at {here} {'see' if seen[i, j] else 'miss'} the code at "
            f"{there}; " + ("its receptive field says otherwise" if there < here else "a leak")
        )


def _dependence(prior: Prior, codes: Tensor) -> Tensor:
    """Bool `[n, n]`: whether the logits of a position (row) depend on a code (column)."""
    number = codes.numel()
    seen = torch.zeros(number, number, dtype=torch.bool)
    with _embeddings_as_leaves(prior, codes) as leaves:
        logits = prior.logits(codes)[0].flatten(1)
    if leaves and prior.num_codebooks == 1:
        scores = torch.randn(len(logits), dtype=logits.dtype) @ logits
        for index, score in enumerate(scores):
            for grad in torch.autograd.grad(score, leaves, retain_graph=True):
                seen[index] |= grad.reshape(number, -1).abs().sum(dim=-1) > 0
        return seen
    for index in range(number):
        changed = codes.flatten(1).clone()
        changed[:, index] = (changed[:, index] + 1) % prior.codebook_size
        with torch.no_grad():
            other = prior.logits(changed.view_as(codes))[0].flatten(1)
        seen[:, index] = ((other - logits).abs() > 1e-12).any(dim=0)
    return seen


def probabilities_sum_to_one(build: Callable[..., Prior], rank: int) -> None:
    """exp(log_prob) of every possible tiny grid adds up to 1."""
    prior = _redrawn(build, rank, codebook_size=3)
    shape = _shape(prior, FEW_GRIDS[rank] if prior.num_codebooks > 1 else TINY_GRIDS[rank])
    every = torch.tensor(list(itertools.product(range(3), repeat=math.prod(shape))))
    with torch.no_grad():
        chunks = [prior.log_prob(part) for part in every.view(-1, *shape).split(1024)]
    total = torch.cat(chunks).double().exp().sum().item()
    if prior.exact_likelihood:
        assert abs(total - 1) < 1e-4, f"rank {rank}: probabilities sum to {total:.6f}, not 1"
    else:
        assert total < 1 + 1e-4, f"rank {rank}: a lower bound sums to {total:.6f}, above 1"


def stepping_gives_the_logits_of_the_whole(build: Callable[..., Prior], rank: int) -> None:
    """The state, pushed code by code, gives the logits that `logits` gives at once, also where
    nobody asked for the logits of the positions before.
    """
    prior = _redrawn(build, rank)
    codes = torch.randint(5, (2, *_shape(prior, GRIDS[rank])))
    with torch.no_grad():
        if prior.start(2, GRIDS[rank], None) is None:
            return
        whole = prior.logits(codes).flatten(2)
        for asked_every in (1, 3):
            state = prior.start(2, GRIDS[rank], None)
            assert state is not None
            for i in range(whole.shape[2]):
                if i % asked_every == 0:
                    difference = (state.logits() - whole[..., i]).abs().max().item()
                    assert difference < 1e-9, (
                        f"rank {rank}: stepping differs from the whole by {difference:.1e} "
                        f"at position {i}, asked at every {asked_every}"
                    )
                state.push(codes.flatten(1)[:, i])


def all_methods_draw_the_same_codes(build: Callable[..., Prior], rank: int) -> None:
    """Cached, full and fixed-point sampling agree, freely and around known codes, and a sample
    does not depend on its neighbours in the batch.
    """
    prior = _redrawn(build, rank)
    grid = GRIDS[rank]
    for trial in range(MASKS):
        shape = _shape(prior, grid)
        known, mask = torch.randint(5, (3, *shape)), torch.rand(shape) < 0.4
        if trial == 0:
            mask[:] = False  # free samples
        if trial == 1:
            mask[0] = True  # a whole known frame, for rank 3
        given = {"known": known, "mask": mask, "seed": trial}
        fixed_point = generate(prior, grid, batch=3, method="fixed_point", **given)  # type: ignore[arg-type]
        for method in ("auto", "full") if trial < 2 else ("auto",):
            other = generate(prior, grid, batch=3, method=method, **given)  # type: ignore[arg-type]
            assert torch.equal(other, fixed_point), (
                f"rank {rank}: {method} and fixed-point sampling differ"
            )
        assert torch.equal(fixed_point[:, mask], known[:, mask]), "a known code was changed"
    alone = generate(prior, grid, batch=1, seed=4)
    together = generate(prior, grid, batch=3, seed=4)
    assert torch.equal(alone, together[:1]), f"rank {rank}: a sample depends on its neighbours"


def sampling_leaves_no_trace(build: Callable[..., Prior], rank: int) -> None:
    """Sampling changes no weight, no buffer, no mode and not torch's random numbers."""
    prior = _redrawn(build, rank).train()
    before, random_state = copy.deepcopy(prior.state_dict()), torch.get_rng_state()
    first = generate(prior, TINY_GRIDS[rank], seed=1)
    assert torch.equal(random_state, torch.get_rng_state()), "sampling used the global generator"
    assert prior.training, "sampling left the prior in another mode"
    changed = differing(before, prior.state_dict())
    assert not changed, f"sampling changed {', '.join(changed)}"
    assert torch.equal(first, generate(prior, TINY_GRIDS[rank], seed=1)), "a seed does not repeat"


def _shape(prior: Prior, grid: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the codes of one item."""
    return (*grid, prior.num_codebooks) if prior.num_codebooks > 1 else grid


def _redrawn(build: Callable[..., Prior], rank: int, codebook_size: int = 5) -> Prior:
    """A prior in float64 and evaluation mode, every parameter drawn from N(0, 0.3^2)."""
    torch.manual_seed(rank)
    prior = build(rank=rank, codebook_size=codebook_size).double().eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.3)
    return prior


@contextmanager
def _embeddings_as_leaves(prior: Prior, codes: Tensor) -> Iterator[list[Tensor]]:
    """What embeddings of the codes give, cut off so that gradients can be taken to it."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not torch.equal(inputs[0].flatten(), codes.flatten()):
            return output
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    tables = [module for module in prior.modules() if isinstance(module, nn.Embedding)]
    handles = [table.register_forward_hook(cut) for table in tables]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()
