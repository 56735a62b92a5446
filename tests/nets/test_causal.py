"""The causal core: who runs when, and what conditions do."""

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.incremental.causal import CausalState
from vqvideo.incremental.stacks import HorizontalStack, TimeStack, VerticalStack
from vqvideo.nets import causal
from vqvideo.priors import PRIORS, CausalPrior, get_default_prior
from vqvideo.sampling import generate

GRIDS = {1: (6,), 2: (4, 5), 3: (3, 4, 5)}
COND = {
    "num_classes": 3,
    "num_speakers": 2,
    "num_actions": 4,
    "actions_per_code": 2,
    "local_channels": 2,
}


def build_conditional_prior(rank, *, options=None, **cond):
    torch.manual_seed(rank)
    options = {"width": 8, "num_layers": 3, "cond": cond or COND, **(options or {})}
    prior = PRIORS.build(get_default_prior(rank), options, rank=rank, codebook_size=5)
    prior = prior.double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def make_cond(grid, batch=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    grid = GRIDS[grid] if isinstance(grid, int) else grid
    return Cond(
        class_id=torch.randint(3, (batch,), generator=draw),
        speaker=torch.randint(2, (batch,), generator=draw),
        actions=torch.randint(4, (batch, grid[0] * 2), generator=draw),
        local=torch.randn(batch, 2, *grid, generator=draw, dtype=torch.double),
    )


@pytest.mark.parametrize("rank", GRIDS)
def test_every_condition_reaches_the_logits(rank):
    prior, grid = build_conditional_prior(rank), GRIDS[rank]
    codes, cond, other = torch.randint(5, (2, *grid)), make_cond(rank), make_cond(rank, seed=1)
    logits = prior.logits(codes, cond)
    for name in ("class_id", "speaker", "actions", "local"):
        changed = Cond(**{**vars(cond), name: getattr(other, name)})
        assert not torch.allclose(prior.logits(codes, changed), logits), name
    assert not torch.allclose(prior.logits(codes), logits)


@pytest.mark.parametrize("rank", [1, 3])
def test_an_action_changes_its_own_code_frame_and_none_before(rank):
    prior, grid = build_conditional_prior(rank), GRIDS[rank]
    codes, cond = torch.randint(5, (1, *grid)), make_cond(rank, batch=1)
    logits = prior.logits(codes, cond)
    for step in range(grid[0] * 2):
        actions = cond.actions.clone()
        actions[:, step] = (actions[:, step] + 1) % 4
        other = prior.logits(codes, Cond(**{**vars(cond), "actions": actions}))
        same = (other == logits).transpose(0, 2).flatten(1).all(dim=1)
        assert same[: step // 2].all()
        assert not same[step // 2]


@pytest.mark.parametrize("rank", GRIDS)
def test_cached_and_full_sampling_agree_under_conditions(rank):
    prior, grid = build_conditional_prior(rank), GRIDS[rank]
    cached = generate(prior, grid, batch=2, cond=make_cond(rank), method="cached")
    full = generate(prior, grid, batch=2, cond=make_cond(rank), method="full")
    assert torch.equal(cached, full)


def test_continuous_actions_work_like_discrete_ones():
    prior = build_conditional_prior(3, action_dim=2, actions_per_code=2)
    cond = Cond(actions=torch.randn(2, 6, 2, dtype=torch.double))
    cached = generate(prior, GRIDS[3], batch=2, cond=cond, method="cached")
    assert torch.equal(cached, generate(prior, GRIDS[3], batch=2, cond=cond, method="full"))


def test_two_samplers_can_share_a_prior():
    prior = build_conditional_prior(3)
    codes = torch.randint(5, (1, *GRIDS[3]))
    states = [prior.init_state(1, GRIDS[3]) for _ in range(2)]
    with torch.no_grad():
        for code in codes.flatten():
            logits = [state.logits() for state in states]
            assert torch.equal(*logits)
            for state in states:
                state.push(code[None])


def count_steps(monkeypatch):
    """How often each stack makes a step from now on."""
    calls = {TimeStack: 0, VerticalStack: 0, HorizontalStack: 0}
    for stack in calls:

        def counted(self, *given, stack=stack, step=stack.step):
            calls[stack] += 1
            return step(self, *given)

        monkeypatch.setattr(stack, "step", counted)
    return calls


@pytest.mark.parametrize("rank", GRIDS)
def test_time_runs_once_a_frame_rows_once_a_row_and_this_row_once_a_code(rank, monkeypatch):
    calls = count_steps(monkeypatch)
    generate(build_conditional_prior(rank), GRIDS[rank], method="cached")
    frames, rows, columns = (1,) * (3 - rank) + GRIDS[rank]
    assert calls[HorizontalStack] == frames * rows * columns
    assert calls[VerticalStack] == frames * (rows - 1)
    assert calls[TimeStack] == frames - 1


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 5), (3, 1, 5), (3, 4, 1), (2, 2, 2)])
def test_grids_smaller_than_the_kernels_step_like_the_whole(grid):
    prior = build_conditional_prior(3, num_classes=3)
    cached = generate(prior, grid, batch=2, method="cached")
    assert torch.equal(cached, generate(prior, grid, batch=2, method="full"))


def test_the_state_lives_outside_the_modules():
    prior = build_conditional_prior(2)
    names = set(vars(prior.net))
    CausalState(prior.net, 1, (5,), None)
    assert set(vars(prior.net)) == names


def test_wrong_conditions_are_refused_in_words():
    prior = build_conditional_prior(3, num_actions=4, actions_per_code=2)
    codes = torch.zeros(1, *GRIDS[3], dtype=torch.long)
    with pytest.raises(
        ValueError, match=r"6 actions are needed, 2 for each of 3 codes .*; got 5, 1 too few"
    ):
        prior.logits(codes, Cond(actions=torch.zeros(1, 5, dtype=torch.long)))
    with pytest.raises(ValueError, match="was not built to take class_id"):
        prior.logits(
            codes,
            Cond(
                actions=torch.zeros(1, 6, dtype=torch.long),
                class_id=torch.zeros(1, dtype=torch.long),
            ),
        )


@pytest.mark.parametrize("rank", GRIDS)
def test_another_rank_names_the_prior_to_choose(rank):
    for other in set(GRIDS) - {rank}:
        with pytest.raises(ValueError, match=f"for rank {other} use '{get_default_prior(other)}'"):
            PRIORS.build(get_default_prior(rank), rank=other, codebook_size=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ((6,), {}),
        ((4, 3), {}),
        *(((4, 2, 3), {"time_kernel_size": frames}) for frames in (1, 2, 3)),
    ],
)
def test_any_number_of_known_positions_can_be_filled_in_at_once(grid, options):
    prior = build_conditional_prior(len(grid), **COND, options=options)
    codes, cond = torch.randint(5, (2, *grid)), make_cond(grid)
    with torch.no_grad():
        logits = prior.logits(codes, cond).flatten(2)
        for positions in range(1, codes[0].numel()):
            state = prior.init_state(2, grid, cond)
            state.prefill(codes, positions)
            for index in range(positions, codes[0].numel()):
                torch.testing.assert_close(state.logits(), logits[..., index])
                state.push(codes.flatten(1)[:, index])


@pytest.mark.parametrize("rank", [2, 3])
def test_of_codes_that_are_only_pushed_the_stacks_see_what_they_must(rank, monkeypatch):
    calls = count_steps(monkeypatch)
    prior, grid = build_conditional_prior(rank), GRIDS[rank]
    state = prior.init_state(1, grid)
    before = grid[-1] * (grid[-2] if rank == 3 else 1)
    with torch.no_grad():
        for _ in range(2 * before + 2):  # two steps along the first axis, and two codes
            state.push(torch.zeros(1, dtype=torch.int64))
        state.logits()
    assert calls[HorizontalStack] == 3  # the two codes of this row, and the one asked for
    assert calls[VerticalStack] == (2 if rank == 2 else 0)
    assert calls[TimeStack] == (2 if rank == 3 else 0)


@pytest.mark.parametrize("rank", [2, 3])
def test_coordinates_distinguish_positions_that_look_alike(rank):
    grid = GRIDS[rank]
    prior = build_conditional_prior(rank, **COND, options={"coordinates": True})
    plain = build_conditional_prior(rank)
    codes = torch.zeros(1, *(14,) * rank, dtype=torch.int64)  # the middle sees no border
    middle = (slice(None), slice(None), *(slice(6, 8),) * rank)
    with torch.no_grad():
        alike, apart = plain.logits(codes)[middle], prior.logits(codes)[middle]
    assert (alike.flatten(2).amax(2) - alike.flatten(2).amin(2)).max() < 1e-12
    assert (apart.flatten(2).amax(2) - apart.flatten(2).amin(2)).max() > 1e-3
    for cond in (None, make_cond(rank)):
        cached, full = (
            generate(prior, grid, batch=2, cond=cond, method=method)
            for method in ("cached", "full")
        )
        assert torch.equal(cached, full)


def test_a_sequence_has_no_coordinates():
    message = "coordinates are rows and columns and require rank 2 or 3, got rank 1"
    with pytest.raises(ValueError, match=message):
        CausalPrior(
            rank=1, codebook_size=5, width=8, kernel_radii=[1], dilations=[1], coordinates=True
        )


def test_the_whole_pass_can_be_learnt_from():
    """Sums are made in place; gradients are those of a pass that makes none."""
    prior = build_conditional_prior(3)
    codes, cond = torch.randint(5, (2, *GRIDS[3])), make_cond(3)
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(
            prior, {"net.layers.1.vertical.weight": weight}, (codes, cond)
        ),
        prior.net.layers[1].vertical.weight.detach().clone().requires_grad_(),
        fast_mode=True,
    )


@pytest.mark.parametrize("rank", GRIDS)
def test_a_batch_that_is_worked_on_in_parts_gives_the_same(rank, monkeypatch):
    prior, grid = build_conditional_prior(rank), GRIDS[rank]
    codes, cond = torch.randint(5, (5, *grid)), make_cond(rank, batch=5)
    with torch.no_grad():
        whole = prior.logits(codes, cond), prior.logits(codes)
        monkeypatch.setattr(
            causal, "MAX_CHUNK_NUMEL", 2 * 8 * codes[0].numel()
        )  # two items, so 2, 2, 1
        torch.testing.assert_close((prior.logits(codes, cond), prior.logits(codes)), whole)
        monkeypatch.setattr(causal, "MAX_CHUNK_NUMEL", 1)  # less than one
        torch.testing.assert_close((prior.logits(codes, cond), prior.logits(codes)), whole)
