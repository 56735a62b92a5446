"""The fused step: the same codes as the plain one, and who decides where it cannot."""

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.priors import PRIORS, default_prior
from vqvideo.sampling import (
    GumbelNoise,
    Sampling,
    generate,
    method_for,
    single_samples,
    stream,
)
from vqvideo.sampling.walk import Task, walk

pytest.importorskip("numba")

GRIDS = {1: (40,), 2: (6, 7), 3: (3, 6, 7)}
SMALL = {"width": 8, "num_layers": 3}


def small_prior(rank, codebook_size=11, name=None, **options):
    torch.manual_seed(rank)
    prior = PRIORS.build(
        name or default_prior(rank), {**SMALL, **options}, rank=rank, codebook_size=codebook_size
    ).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def both(prior, grid, **options):
    return (generate(prior, grid, method=method, **options) for method in ("fused", "cached"))


@pytest.mark.parametrize("num_codebooks", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0, 0.3, 1, 2])
@pytest.mark.parametrize("rank", GRIDS)
def test_the_fused_step_draws_the_codes_of_the_plain_one(rank, temperature, num_codebooks):
    prior = small_prior(rank, num_codebooks=num_codebooks)
    for seed in range(3):
        fused, plain = both(prior, GRIDS[rank], seed=seed, temperature=temperature)
        assert torch.equal(fused, plain)


@pytest.mark.parametrize("width", [4, 6, 20])  # 6 fills no whole block of four channels
@pytest.mark.parametrize("rank", GRIDS)
def test_any_width_and_any_depth_fuse(rank, width):
    for layers in (1, 4):
        prior = small_prior(rank, width=width, num_layers=layers)
        fused, plain = both(prior, GRIDS[rank])
        assert torch.equal(fused, plain)


@pytest.mark.parametrize("kernels", [(5, 5), (3, 7), (7, 3)])
@pytest.mark.parametrize("rank", [2, 3])
def test_kernels_of_every_reach_fuse(rank, kernels):
    prior = small_prior(rank, first_kernel=kernels[0], kernel=kernels[1])
    fused, plain = both(prior, GRIDS[rank], seed=1)
    assert torch.equal(fused, plain)


@pytest.mark.parametrize("rank", GRIDS)
def test_known_codes_anywhere_stay_and_decide_what_follows(rank):
    prior, grid = small_prior(rank), GRIDS[rank]
    for seed in range(5):
        torch.manual_seed(seed)
        known, mask = torch.randint(11, (1, *grid)), torch.rand(grid) < 0.4
        fused, plain = both(prior, grid, known=known, mask=mask, seed=seed)
        assert torch.equal(fused, plain)
        assert torch.equal(fused[:, mask], known[:, mask])


@pytest.mark.parametrize("rank", GRIDS)
def test_conditions_of_every_kind_reach_the_fused_step(rank):
    sizes = {"num_classes": 3, "num_actions": 4, "actions_per_code": 2, "local_channels": 2}
    prior, grid = small_prior(rank, cond=sizes), GRIDS[rank]
    cond = Cond(
        class_id=torch.tensor([2]),
        actions=torch.randint(4, (1, 2 * grid[0])),
        local=torch.randn(1, 2, *grid),
    )
    fused, plain = both(prior, grid, cond=cond)
    assert torch.equal(fused, plain)
    assert not torch.equal(fused, generate(prior, grid, method="fused"))


def test_a_sequence_longer_than_the_history_has_room_for_rolls_on():
    prior = small_prior(1, num_layers=6)
    fused, plain = both(prior, (2500,), seed=2)
    assert torch.equal(fused, plain)


class Counts:
    """A state whose `logits` are counted: who decided."""

    def __init__(self, state):
        self.state, self.asked = state, 0

    def logits(self):
        self.asked += 1
        return self.state.logits()

    def push(self, codes):
        self.state.push(codes)


def drawn_and_asked(prior, grid, noise=None):
    state = prior.start(1, grid, None)
    counts, codes = Counts(state), torch.zeros(1, *grid, dtype=torch.int64)
    task = Task(
        Sampling(),
        codes,
        torch.zeros(codes.numel(), dtype=torch.bool),
        noise or GumbelNoise(0, 1, prior.codebook_size),
        lambda done, total: None,
    )
    with torch.inference_mode():
        walk(task, counts, state.fused(), 1)
    return codes, counts.asked


def test_the_plain_step_is_asked_only_where_two_scores_are_close():
    codes, asked = drawn_and_asked(small_prior(2), (6, 7))
    assert asked == 0
    assert torch.equal(codes, generate(small_prior(2), (6, 7), method="cached"))


class NoNoise(GumbelNoise):
    """So that equal logits are equal scores."""

    def ahead(self, most):
        return torch.zeros_like(super().ahead(most))

    def next(self):
        return torch.zeros_like(super().next())


def test_where_two_scores_are_equal_the_plain_step_decides():
    prior = small_prior(2)
    with torch.no_grad():
        for out in prior.head.out:
            out.weight[1::2] = out.weight[:-1:2]  # every code has a twin, but the last
            out.bias[1::2] = out.bias[:-1:2]
            out.bias[-1] = -100
    codes, asked = drawn_and_asked(prior, (6, 7), NoNoise(0, 1, 11))
    assert asked == 42
    assert (codes % 2 == 0).all()  # the first of two equals


def test_scores_that_are_no_numbers_are_left_to_the_plain_step():
    prior = small_prior(2)
    with torch.no_grad():
        prior.head.out[0].bias[3] = torch.nan
    codes, asked = drawn_and_asked(prior, (2, 3))
    assert asked == 6
    assert (codes == 3).all()


def test_a_codebook_of_one_entry_is_drawn_without_asking():
    codes, asked = drawn_and_asked(small_prior(2, codebook_size=1), (2, 3))
    assert asked == 0
    assert not codes.any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": 2}, "one sample at a time, not for a batch of 2"),
        ({"top_k": 3}, "it knows no top_k and no top_p"),
        ({"top_p": 0.9}, "it knows no top_k and no top_p"),
        ({"cond": Cond(class_id=torch.tensor([1])), "guidance": 2.0}, "it knows no guidance"),
    ],
)
def test_what_cannot_be_fused_says_why_and_auto_goes_without(options, reason):
    prior = small_prior(2, cond={"num_classes": 3})
    with pytest.raises(ValueError, match=f"no fused step here: .*{reason}; use method='auto'"):
        generate(prior, (3, 4), method="fused", **options)
    assert torch.equal(
        generate(prior, (3, 4), **options), generate(prior, (3, 4), method="cached", **options)
    )
    plain = {name: value for name, value in options.items() if name != "cond"}
    assert method_for(prior, **plain) == "cached"


def test_other_precisions_and_other_priors_are_not_fused():
    with pytest.raises(ValueError, match=r"float32 on the CPU, not for torch.float64 on cpu"):
        generate(small_prior(2).double(), (3, 4), method="fused")
    transformer = small_prior(2, name="transformer", num_heads=2)
    with pytest.raises(ValueError, match="for convolutional priors"):
        generate(transformer, (3, 4), method="fused")
    assert method_for(small_prior(2)) == "fused"
    assert method_for(transformer) == "cached"


def test_without_numba_auto_is_plain_and_fused_says_what_to_install(monkeypatch):
    from vqvideo.priors import causal

    monkeypatch.setattr(causal.importlib.util, "find_spec", lambda name: None)
    prior = small_prior(2)
    assert method_for(prior) == "cached"
    with pytest.raises(ValueError, match=r"needs numba: pip install 'vqvideo\[fast\]'"):
        generate(prior, (3, 4), method="fused")


def test_how_single_samples_are_drawn_is_said_in_words(monkeypatch):
    assert single_samples(small_prior(2)).startswith("fused (numba ")
    wide = small_prior(2).double()
    assert single_samples(wide).startswith("cached: there is no fused step, it is for float32")


def test_under_autocast_the_plain_step_draws():
    prior = small_prior(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert method_for(prior) == "cached"
        generate(prior, (2, 3, 4))


@pytest.mark.parametrize("rank", GRIDS)
def test_a_stream_is_fused_too(rank):
    prior, grid = small_prior(rank), GRIDS[rank]
    steps = stream(prior, grid[1:], seed=4, method="fused")
    fused = torch.stack([next(steps) for _ in range(grid[0])], dim=1)
    assert torch.equal(fused, generate(prior, grid, seed=4, method="cached"))
