"""Laws of a prior's logits: what each may see, and that they are probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.priors import Prior
from vqvideo.testing.grids import (
    FEW_GRIDS,
    GRIDS,
    LONG_GRIDS,
    NARROW_GRIDS,
    SMALL_GRIDS,
    TINY_GRIDS,
    share,
)
from vqvideo.testing.prior_setup import (
    DRAWS,
    KINDS,
    Build,
    drawn_codes,
    of_every_kind,
    redrawn,
    seeded,
    shape_of,
    told,
)

READ = "vqvideo.priors.Prior"


def no_logit_sees_its_own_code_or_a_later_one(build: Build, rank: int) -> None:
    """Changing codes from some position on changes no logit up to that position, to the bit; in
    training neither, where both are drawn with the same dropout.
    """
    prior = redrawn(build, rank)
    for grid in (GRIDS[rank], *NARROW_GRIDS[rank]):
        _require_causal(prior, grid, f"rank {rank}, grid {grid}")
    _require_causal(prior.train(), GRIDS[rank], f"rank {rank}, grid {GRIDS[rank]}, in training")


@torch.no_grad()
def _require_causal(prior: Prior, grid: tuple[int, ...], where: str) -> None:
    codes = drawn_codes(prior, 1, grid)
    number = codes.numel()
    # Item i has all codes from i on changed. What is compared stands at the same place of a batch
    # of the same size: how sums are rounded may depend on both.
    same, changed = codes.expand(number, *codes.shape[1:]), codes.repeat_interleave(number, 0)
    later = torch.ones(number, number, dtype=torch.bool).triu()
    changed.flatten(1)[later] = (changed.flatten(1)[later] + 1) % 5
    logits, other = (seeded(prior.logits, each.contiguous()) for each in (same, changed))
    expected = (number, 5, *codes.shape[1:])
    assert logits.shape == expected, (
        f"{where}: logits must be [b, K, *grid], so here {list(expected)}, got {list(logits.shape)}"
    )
    leaks = (other != logits).flatten(2).any(dim=1).tril().nonzero().tolist()
    assert not leaks, (
        f"{where}: the logits at position {leaks[0][1]} depend on the code at position "
        f"{leaks[0][0]} or later; they must not"
    )


def every_code_in_the_receptive_field_is_seen(build: Build, rank: int) -> None:
    """By gradient: each logit depends on every earlier code inside `receptive_field`, on none
    outside it and on no later one. (By change of code for a prior that embeds no codes, or
    several per position.)
    """
    prior = redrawn(build, rank)
    for grid in (GRIDS[rank], *NARROW_GRIDS[rank], *LONG_GRIDS[rank]):
        positions = list(itertools.product(*map(range, shape_of(prior, grid))))
        expected = torch.tensor([[_may_see(prior, i, j) for j in positions] for i in positions])
        seen = torch.zeros_like(expected)
        for draw in range(DRAWS):
            prior = redrawn(build, rank, draw=draw)
            seen |= _dependence(prior, drawn_codes(prior, 1, grid))
            if draw and torch.equal(seen, expected):
                break
        for i, j in (seen != expected).nonzero().tolist():
            here, there = positions[i], positions[j]
            raise AssertionError(
                f"rank {rank}, grid {grid}: the logits at {here} "
                f"{'see' if seen[i, j] else 'miss'} the code at {there}; "
                + ("its receptive field says otherwise" if there < here else "a leak")
            )


def _may_see(prior: Prior, here: tuple[int, ...], there: tuple[int, ...]) -> bool:
    """Whether the logits at one position should depend on the code at another."""
    offset = [a - b for a, b in zip(there, here, strict=True)][: prior.rank]
    field = prior.receptive_field
    inside = field is None or not any(offset) or field.contains(offset)
    return there < here and inside


def _dependence(prior: Prior, codes: Tensor) -> Tensor:
    """Bool `[n, n]`: whether the logits of a position (row) depend on a code (column)."""
    number = codes.numel()
    same = codes.expand(number, *codes.shape[1:]).contiguous()
    if prior.num_codebooks == 1:
        with _embeddings_as_leaves(prior, same) as leaves:
            logits = prior.logits(same).flatten(2)  # of one batch, for all gradients at once:
        if leaves:
            weights = torch.randn(logits.shape[1], dtype=logits.dtype)
            scores = torch.einsum("k,iki->i", weights, logits)  # item i answers for position i
            grads = torch.autograd.grad(scores.sum(), leaves)
            sums = [grad.reshape(number, number, -1).abs().sum(dim=-1) for grad in grads]
            return torch.stack(sums).amax(dim=0) > 0
    changed = same.clone()
    changed.flatten(1).diagonal().add_(1).remainder_(prior.codebook_size)
    with torch.no_grad():
        logits, other = prior.logits(same), prior.logits(changed)
    return (other != logits).flatten(2).any(dim=1).T


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


@torch.no_grad()
def probabilities_sum_to_one(build: Build, rank: int) -> None:
    """exp(log_prob) of every possible tiny grid adds up to 1."""
    size = 2 if rank == 3 else 3  # 256 or 729 grids
    prior = redrawn(build, rank, codebook_size=size)
    shape = shape_of(prior, FEW_GRIDS[rank] if prior.num_codebooks > 1 else TINY_GRIDS[rank])
    every = torch.tensor(list(itertools.product(range(size), repeat=math.prod(shape))))
    chunks = [prior.log_prob(part) for part in every.view(-1, *shape).split(2048)]
    total = torch.cat(chunks).double().exp().sum().item()
    if prior.exact_likelihood:
        assert abs(total - 1) < 1e-9, f"rank {rank}: probabilities sum to {total:.10f}, not 1"
    else:
        assert total < 1 + 1e-9, f"rank {rank}: a lower bound sums to {total:.10f}, above 1"


@torch.no_grad()
def log_prob_is_the_sum_over_codes(build: Build, rank: int) -> None:
    """log_prob adds up the log-softmax of the logits at the codes; a bound lies below that."""
    prior = redrawn(build, rank)
    codes = drawn_codes(prior, 3, GRIDS[rank])
    found = prior.log_prob(codes)
    assert found.shape == (3,), f"rank {rank}: log_prob must be [b], got {list(found.shape)}"
    nats = prior.logits(codes).flatten(2).log_softmax(dim=1)
    for item in range(3):
        chosen = enumerate(codes[item].flatten().tolist())
        expected = sum(nats[item, code, place].item() for place, code in chosen)
        above = found[item].item() - expected
        assert above < 1e-9 and (above > -1e-9 or not prior.exact_likelihood), (
            f"rank {rank}: log_prob of item {item} is {found[item]:.9f} nats, its logits say "
            f"{expected:.9f}"
        )


@torch.no_grad()
def training_minimises_a_scalar(build: Build, rank: int) -> None:
    """`forward` gives one number: the mean nats per code, where there are no latents to learn; in
    training the same, dropout aside.
    """
    prior = redrawn(build, rank)
    codes = drawn_codes(prior, 3, GRIDS[rank])
    expected = -prior.log_prob(codes).sum() / codes.numel()
    for training in (False, True):
        prior.train(training)
        for module in prior.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        loss, again = (seeded(prior, codes, seed=seed) for seed in (1, 2))
        where = f"rank {rank}{' in training' if training else ''}"
        assert loss.shape == (), f"{where}: forward must give a scalar, got {list(loss.shape)}"
        if not prior.exact_likelihood or (training and loss != again):  # other noise than dropout
            return
        assert torch.allclose(loss, expected), (
            f"{where}: forward gives {loss:.6f} nats per code, log_prob {expected:.6f}"
        )


@torch.no_grad()
def a_loaded_prior_is_the_one_that_was_saved(build: Build, rank: int) -> None:
    """A prior built anew that loads the `state_dict` gives the same logits and the same `log_prob`,
    bit for bit, whatever it is told: nothing that decides them was left out.
    """
    for kind, prior in of_every_kind(build, rank):
        given = {} if prior.cond.is_empty else {"cond": KINDS[kind]}
        torch.manual_seed(7)  # what is drawn and not saved is another now
        again = build(rank=rank, codebook_size=prior.codebook_size, **given).double().eval()
        again.load_state_dict(prior.state_dict())
        codes, cond = drawn_codes(prior, 2, SMALL_GRIDS[rank]), told(prior, 2, SMALL_GRIDS[rank])
        for what in ("logits", "log_prob"):
            expected, found = (getattr(each, what)(codes, cond) for each in (prior, again))
            assert torch.equal(found, expected), (
                f"rank {rank} under {kind}: loaded into a prior built under another seed, its "
                f"state gives {share(found, expected)} numbers of {what} otherwise: something is "
                f"not in the state_dict"
            )
