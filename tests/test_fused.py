"""The fused step: the same codes as the plain one, and who decides where it cannot."""

import importlib.util

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.priors import PRIORS, get_default_prior
from vqvideo.sampling import (
    GumbelNoise,
    SamplingParams,
    describe_auto_method,
    generate,
    select_method,
    stream,
)
from vqvideo.sampling.loop import SamplingState, sample_loop

pytest.importorskip("numba")

GRIDS = {1: (40,), 2: (6, 7), 3: (3, 6, 7)}
SMALL = {"width": 8, "num_layers": 3}


def build_small_prior(rank, codebook_size=11, name=None, **options):
    torch.manual_seed(rank)
    prior = PRIORS.build(
        name or get_default_prior(rank),
        {**SMALL, **options},
        rank=rank,
        codebook_size=codebook_size,
    ).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def sample_both(prior, grid, **options):
    return (generate(prior, grid, method=method, **options) for method in ("fused", "cached"))


@pytest.mark.slow
@pytest.mark.parametrize("num_codebooks", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0, 0.3, 1, 2])
@pytest.mark.parametrize("rank", GRIDS)
def test_the_fused_step_draws_the_codes_of_the_plain_one(rank, temperature, num_codebooks):
    prior = build_small_prior(rank, num_codebooks=num_codebooks)
    for seed in range(3):
        fused, plain = sample_both(prior, GRIDS[rank], seed=seed, temperature=temperature)
        assert torch.equal(fused, plain)


@pytest.mark.parametrize("width", [4, 6, 20])  # 6 fills no whole block of four channels
@pytest.mark.parametrize("rank", GRIDS)
def test_any_width_and_any_depth_fuse(rank, width):
    for layers in (1, 4):
        prior = build_small_prior(rank, width=width, num_layers=layers)
        fused, plain = sample_both(prior, GRIDS[rank])
        assert torch.equal(fused, plain)


@pytest.mark.parametrize("kernels", [(5, 5), (3, 7), (7, 3)])
@pytest.mark.parametrize("rank", [2, 3])
def test_kernels_of_every_context_fuse(rank, kernels):
    prior = build_small_prior(rank, first_kernel_size=kernels[0], kernel_size=kernels[1])
    fused, plain = sample_both(prior, GRIDS[rank], seed=1)
    assert torch.equal(fused, plain)


@pytest.mark.parametrize("rank", GRIDS)
def test_known_codes_anywhere_stay_and_decide_what_follows(rank):
    prior, grid = build_small_prior(rank), GRIDS[rank]
    for seed in range(5):
        torch.manual_seed(seed)
        known, mask = torch.randint(11, (1, *grid)), torch.rand(grid) < 0.4
        fused, plain = sample_both(prior, grid, known=known, mask=mask, seed=seed)
        assert torch.equal(fused, plain)
        assert torch.equal(fused[:, mask], known[:, mask])


@pytest.mark.parametrize("rank", GRIDS)
def test_conditions_of_every_kind_reach_the_fused_step(rank):
    sizes = {"num_classes": 3, "num_actions": 4, "actions_per_code": 2, "local_channels": 2}
    prior, grid = build_small_prior(rank, cond=sizes), GRIDS[rank]
    cond = Cond(
        class_id=torch.tensor([2]),
        actions=torch.randint(4, (1, 2 * grid[0])),
        local=torch.randn(1, 2, *grid),
    )
    fused, plain = sample_both(prior, grid, cond=cond)
    assert torch.equal(fused, plain)
    assert not torch.equal(fused, generate(prior, grid, method="fused"))


def test_a_sequence_longer_than_the_history_has_room_for_rolls_on():
    prior = build_small_prior(1, num_layers=6)
    fused, plain = sample_both(prior, (2500,), seed=2)
    assert torch.equal(fused, plain)


class CountingState:
    """A state whose `logits` are counted: who decided."""

    def __init__(self, state):
        self.state, self.asked = state, 0

    def logits(self):
        self.asked += 1
        return self.state.logits()

    def push(self, codes):
        self.state.push(codes)


def sample_and_count_queries(prior, grid, noise=None):
    state = prior.init_state(1, grid, None)
    counts, codes = CountingState(state), torch.zeros(1, *grid, dtype=torch.int64)
    task = SamplingState(
        prior,
        SamplingParams(),
        codes,
        torch.zeros(codes.numel(), dtype=torch.bool),
        noise or GumbelNoise(0, 1, prior.codebook_size),
    )
    with torch.inference_mode():
        sample_loop(task, counts, state.build_fused_sampler())
    return codes, counts.asked


def test_the_plain_step_is_asked_only_where_two_scores_are_close():
    codes, asked = sample_and_count_queries(build_small_prior(2), (6, 7))
    assert asked == 0
    assert torch.equal(codes, generate(build_small_prior(2), (6, 7), method="cached"))


class NoNoise(GumbelNoise):
    """So that equal logits are equal scores."""

    def peek(self, most):
        return torch.zeros_like(super().peek(most))

    def next(self):
        return torch.zeros_like(super().next())


def test_where_two_scores_are_equal_the_plain_step_decides():
    prior = build_small_prior(2)
    with torch.no_grad():
        for out in prior.head.out:
            out.weight[1::2] = out.weight[:-1:2]  # every code has a twin, but the last
            out.bias[1::2] = out.bias[:-1:2]
            out.bias[-1] = -100
    codes, asked = sample_and_count_queries(prior, (6, 7), NoNoise(0, 1, 11))
    assert asked == 42
    assert (codes % 2 == 0).all()  # the first of two equals


def test_scores_that_are_no_numbers_are_left_to_the_plain_step():
    prior = build_small_prior(2)
    with torch.no_grad():
        prior.head.out[0].bias[3] = torch.nan
    codes, asked = sample_and_count_queries(prior, (2, 3))
    assert asked == 6
    assert (codes == 3).all()


def test_a_codebook_of_one_entry_is_drawn_without_asking():
    codes, asked = sample_and_count_queries(build_small_prior(2, codebook_size=1), (2, 3))
    assert asked == 0
    assert not codes.any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": 2}, "it requires a batch of 1, got 2"),
        ({"top_k": 3}, "it does not support top_k and top_p"),
        ({"top_p": 0.9}, "it does not support top_k and top_p"),
        (
            {"cond": Cond(class_id=torch.tensor([1])), "guidance_scale": 2.0},
            "it does not support guidance",
        ),
    ],
)
def test_what_cannot_be_fused_says_why_and_auto_goes_without(options, reason):
    prior = build_small_prior(2, cond={"num_classes": 3})
    message = f"the fused sampler is not available: {reason}; use method='auto'"
    with pytest.raises(ValueError, match=message):
        generate(prior, (3, 4), method="fused", **options)
    assert torch.equal(
        generate(prior, (3, 4), **options), generate(prior, (3, 4), method="cached", **options)
    )
    plain = {name: value for name, value in options.items() if name != "cond"}
    assert select_method(prior, **plain) == "cached"


def test_other_precisions_and_other_priors_are_not_fused():
    with pytest.raises(ValueError, match=r"float32 on the CPU, got torch.float64 on cpu"):
        generate(build_small_prior(2).double(), (3, 4), method="fused")
    transformer = build_small_prior(2, name="transformer", num_heads=2)
    with pytest.raises(ValueError, match="supports convolutional priors only"):
        generate(transformer, (3, 4), method="fused")
    assert select_method(build_small_prior(2)) == "fused"
    assert select_method(transformer) == "cached"


def test_without_numba_auto_is_plain_and_fused_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    prior = build_small_prior(2)
    assert select_method(prior) == "cached"
    with pytest.raises(ValueError, match=r"numba is not installed: pip install 'vqvideo\[fast\]'"):
        generate(prior, (3, 4), method="fused")


def test_how_single_samples_are_drawn_is_said_in_words(monkeypatch):
    assert describe_auto_method(build_small_prior(2)).startswith("fused (numba ")
    wide = build_small_prior(2).double()
    assert describe_auto_method(wide).startswith(
        "cached: the fused sampler is not available, it requires float32"
    )


def test_under_autocast_the_plain_step_draws():
    prior = build_small_prior(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert select_method(prior) == "cached"
        generate(prior, (2, 3, 4))


@pytest.mark.parametrize("rank", GRIDS)
def test_a_stream_is_fused_too(rank):
    prior, grid = build_small_prior(rank), GRIDS[rank]
    steps = stream(prior, grid[1:], seed=4, method="fused")
    fused = torch.stack([next(steps) for _ in range(grid[0])], dim=1)
    assert torch.equal(fused, generate(prior, grid, seed=4, method="cached"))
