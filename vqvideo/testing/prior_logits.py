"""Laws of the logits of a prior: causality, receptive field and normalization."""

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
    GRIDS,
    LONG_GRIDS,
    MICRO_GRIDS,
    NARROW_GRIDS,
    SMALL_GRIDS,
    TINY_GRIDS,
    format_mismatch,
)
from vqvideo.testing.prior_setup import (
    COND_SPECS,
    MAX_TRIALS,
    Build,
    build_noisy_prior,
    get_code_shape,
    get_group_indices,
    iter_priors,
    make_cond,
    make_random_codes,
    run_seeded,
)

REFERENCE = "vqvideo.priors.Prior"


def logits_are_strictly_causal(build: Build, rank: int) -> None:
    """Changing the codes of a group and of all later ones, in the order of the prior, changes no
    logit up to and including that group, bit for bit, also in training with the same dropout. In
    raster order each code is a group.
    """
    prior = build_noisy_prior(build, rank)
    for grid in (GRIDS[rank], *NARROW_GRIDS[rank]):
        _assert_causal(prior, grid, f"rank {rank}, grid {grid}")
    _assert_causal(prior.train(), GRIDS[rank], f"rank {rank}, grid {GRIDS[rank]}, in training")


@torch.no_grad()
def _assert_causal(prior: Prior, grid: tuple[int, ...], where: str) -> None:
    codes = make_random_codes(prior, 1, grid)
    num_codes = codes.numel()
    # In item i all codes of its group and of later ones are changed. Compared items have the same
    # index in batches of the same size, since rounding may depend on both.
    same, changed = codes.expand(num_codes, *codes.shape[1:]), codes.repeat_interleave(num_codes, 0)
    groups = get_group_indices(prior, grid)
    later = groups >= groups[:, None]
    changed.flatten(1)[later] = (changed.flatten(1)[later] + 1) % 5
    logits, other = (run_seeded(prior.logits, each.contiguous()) for each in (same, changed))
    expected = (num_codes, 5, *codes.shape[1:])
    assert logits.shape == expected, (
        f"{where}: logits must be [b, K, *grid], here {list(expected)}, got {list(logits.shape)}"
    )
    changes = (other != logits).flatten(2).any(dim=1)
    leaks = (changes & (groups <= groups[:, None])).nonzero().tolist()
    assert not leaks, (
        f"{where}: the logits at position {leaks[0][1]} depend on the code at position "
        f"{leaks[0][0]} or later; they may only depend on earlier codes"
    )


def logits_depend_on_the_whole_receptive_field(build: Build, rank: int) -> None:
    """Each logit depends on every earlier code inside `receptive_field`, on no code outside it and
    on no later code. (Tested by gradients of the embeddings; by changing codes if the prior has no
    embedding or several codes per position.)
    """
    prior = build_noisy_prior(build, rank)
    for grid in (GRIDS[rank], *NARROW_GRIDS[rank], *LONG_GRIDS[rank]):
        positions = list(itertools.product(*map(range, get_code_shape(prior, grid))))
        groups = get_group_indices(prior, grid)
        earlier = groups < groups[:, None]
        expected = earlier & torch.tensor(
            [[_is_in_receptive_field(prior, i, j) for j in positions] for i in positions]
        )
        actual = torch.zeros_like(expected)
        for trial in range(MAX_TRIALS):
            prior = build_noisy_prior(build, rank, trial=trial)
            actual |= _compute_dependence(prior, make_random_codes(prior, 1, grid))
            if trial and torch.equal(actual, expected):
                break
        for i, j in (actual != expected).nonzero().tolist():
            here, there = positions[i], positions[j]
            raise AssertionError(
                f"rank {rank}, grid {grid}: the logits at {here} "
                f"{'depend' if actual[i, j] else 'do not depend'} on the code at {there}; "
                + (
                    "they are not causal"
                    if not earlier[i, j]
                    else "this contradicts receptive_field"
                )
            )


def _is_in_receptive_field(prior: Prior, here: tuple[int, ...], there: tuple[int, ...]) -> bool:
    """Return whether the logits at one position should depend on an earlier code at another."""
    offset = [a - b for a, b in zip(there, here, strict=True)][: prior.rank]
    field = prior.receptive_field
    return field is None or not any(offset) or field.contains(offset)


def _compute_dependence(prior: Prior, codes: Tensor) -> Tensor:
    """Return bool `[n, n]`: whether the logits at a position (row) depend on a code (column)."""
    num_codes = codes.numel()
    same = codes.expand(num_codes, *codes.shape[1:]).contiguous()
    if prior.num_codebooks == 1:
        with _detach_embeddings(prior, same) as leaves:
            logits = prior.logits(same).flatten(2)  # one batch yields all gradients:
        if leaves:
            weights = torch.randn(logits.shape[1], dtype=logits.dtype)
            scores = torch.einsum("k,iki->i", weights, logits)  # item i scores position i
            grads = torch.autograd.grad(scores.sum(), leaves)
            sums = [grad.reshape(num_codes, num_codes, -1).abs().sum(dim=-1) for grad in grads]
            return torch.stack(sums).amax(dim=0) > 0
    changed = same.clone()
    changed.flatten(1).diagonal().add_(1).remainder_(prior.codebook_size)
    with torch.no_grad():
        logits, other = prior.logits(same), prior.logits(changed)
    return (other != logits).flatten(2).any(dim=1).T


@contextmanager
def _detach_embeddings(prior: Prior, codes: Tensor) -> Iterator[list[Tensor]]:
    """Detach the embeddings of the codes, and collect them as leaves that require gradients."""
    leaves: list[Tensor] = []

    def detach(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not torch.equal(inputs[0].flatten(), codes.flatten()):
            return output
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    tables = [module for module in prior.modules() if isinstance(module, nn.Embedding)]
    handles = [table.register_forward_hook(detach) for table in tables]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def probabilities_sum_to_one(build: Build, rank: int) -> None:
    """exp(log_prob) sums to 1 over all possible grids of a tiny shape (at most 1 for a bound)."""
    size = 2 if rank == 3 else 3  # 256 or 729 grids
    prior = build_noisy_prior(build, rank, codebook_size=size)
    shape = get_code_shape(
        prior, MICRO_GRIDS[rank] if prior.num_codebooks > 1 else TINY_GRIDS[rank]
    )
    grids = torch.tensor(list(itertools.product(range(size), repeat=math.prod(shape))))
    chunks = [prior.log_prob(chunk) for chunk in grids.view(-1, *shape).split(2048)]
    total = torch.cat(chunks).double().exp().sum().item()
    if prior.has_exact_likelihood:
        assert abs(total - 1) < 1e-9, f"rank {rank}: probabilities sum to {total:.10f}, not 1"
    else:
        assert total < 1 + 1e-9, f"rank {rank}: the lower bounds sum to {total:.10f}, above 1"


@torch.no_grad()
def log_prob_is_the_sum_over_codes(build: Build, rank: int) -> None:
    """`log_prob` is the sum of the log-softmax of the logits at the codes; a bound is at most that
    sum.
    """
    prior = build_noisy_prior(build, rank)
    codes = make_random_codes(prior, 3, GRIDS[rank])
    log_prob = prior.log_prob(codes)
    assert log_prob.shape == (3,), f"rank {rank}: log_prob must be [b], got {list(log_prob.shape)}"
    log_probs = prior.logits(codes).flatten(2).log_softmax(dim=1)
    for item in range(3):
        chosen = enumerate(codes[item].flatten().tolist())
        expected = sum(log_probs[item, code, position].item() for position, code in chosen)
        excess = log_prob[item].item() - expected
        assert excess < 1e-9 and (excess > -1e-9 or not prior.has_exact_likelihood), (
            f"rank {rank}: log_prob of item {item} is {log_prob[item]:.9f} nats, but its logits "
            f"give {expected:.9f}"
        )


@torch.no_grad()
def training_minimises_a_scalar(build: Build, rank: int) -> None:
    """`forward` returns a scalar: the mean NLL in nats per code, in evaluation and, apart from
    dropout, in training. (For a prior with latents only the shape is checked.)
    """
    prior = build_noisy_prior(build, rank)
    codes = make_random_codes(prior, 3, GRIDS[rank])
    expected = -prior.log_prob(codes).sum() / codes.numel()
    for training in (False, True):
        prior.train(training)
        for module in prior.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        loss, other = (run_seeded(prior, codes, seed=seed) for seed in (1, 2))
        where = f"rank {rank}{' in training' if training else ''}"
        assert loss.shape == (), f"{where}: forward must return a scalar, got {list(loss.shape)}"
        # A loss that depends on the seed has noise other than dropout.
        if not prior.has_exact_likelihood or (training and loss != other):
            return
        assert torch.allclose(loss, expected), (
            f"{where}: forward gives {loss:.6f} nats per code, but log_prob gives {expected:.6f}"
        )


@torch.no_grad()
def a_loaded_prior_is_the_one_that_was_saved(build: Build, rank: int) -> None:
    """A newly built prior that loads the `state_dict` gives bitwise the same logits and `log_prob`,
    under every condition: the state is complete.
    """
    for kind, prior in iter_priors(build, rank):
        kwargs = {} if prior.cond.is_empty else {"cond": COND_SPECS[kind]}
        torch.manual_seed(7)  # random values that are not saved differ now
        loaded = build(rank=rank, codebook_size=prior.codebook_size, **kwargs).double().eval()
        loaded.load_state_dict(prior.state_dict())
        codes, cond = (
            make_random_codes(prior, 2, SMALL_GRIDS[rank]),
            make_cond(prior, 2, SMALL_GRIDS[rank]),
        )
        for name in ("logits", "log_prob"):
            expected, actual = (getattr(each, name)(codes, cond) for each in (prior, loaded))
            assert torch.equal(actual, expected), (
                f"rank {rank} under {kind}: loading the state_dict into a prior built under "
                f"another seed changes {format_mismatch(actual, expected)} values of {name}: the "
                f"state_dict is incomplete"
            )
