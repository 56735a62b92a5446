"""The transformer: positions, the state that steps it, conditions, and that it learns."""

import itertools
import math

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.nets.attention import (
    AttentionNet,
    apply_rope,
    attend,
    compute_coords,
    compute_rope_frequencies,
)
from vqvideo.priors import PRIORS
from vqvideo.sampling import generate, stream

GRIDS = {1: (6,), 2: (4, 5), 3: (3, 2, 4)}
SPECS = {
    "nothing": {},
    "class_id": {"num_classes": 3},
    "speaker": {"num_speakers": 2},
    "actions": {"num_actions": 4, "actions_per_code": 2},
    "continuous actions": {"action_dim": 2, "actions_per_code": 2},
    "local": {"local_channels": 2},
    "all": {"num_classes": 3, "num_speakers": 2, "num_actions": 4, "local_channels": 2},
}


def build_small_prior(rank, dtype=torch.double, cond=None, **options):
    torch.manual_seed(rank)
    options = {"width": 12, "num_layers": 2, "num_heads": 2, "cond": cond, **options}
    prior = PRIORS.build("transformer", options, rank=rank, codebook_size=5).to(dtype).eval()
    if dtype == torch.double:
        for parameter in prior.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return prior


def make_cond(spec, grid, batch=2, seed=0, dtype=torch.double):
    draw = torch.Generator().manual_seed(seed)
    frames = grid[0] * spec.get("actions_per_code", 1)
    values = {}
    if "num_classes" in spec:
        values["class_id"] = torch.randint(3, (batch,), generator=draw)
    if "num_speakers" in spec:
        values["speaker"] = torch.randint(2, (batch,), generator=draw)
    if "num_actions" in spec:
        values["actions"] = torch.randint(4, (batch, frames), generator=draw)
    if "action_dim" in spec:
        values["actions"] = torch.randn(batch, frames, 2, generator=draw, dtype=dtype)
    if "local_channels" in spec:
        values["local"] = torch.randn(batch, 2, *grid, generator=draw, dtype=dtype)
    return Cond(**values) if values else None


def slice_cond(cond, steps, per_step):
    """What a condition says of some steps along the first axis, a slice."""
    if cond is None:
        return None
    values = {name: value for name, value in vars(cond).items() if value is not None}
    if "actions" in values:
        actions = values["actions"].unflatten(1, (-1, per_step))
        values["actions"] = actions[:, steps].flatten(1, 2)
    if "local" in values:
        values["local"] = values["local"][:, :, steps]
    return Cond(**values)


def assert_steps(state, codes, whole, close, first=0, asked_every=1):
    """The state, at code `first`, gives the logits that the whole has from there on."""
    for i in range(first, whole.shape[2]):
        if i % asked_every == 0:
            difference = (state.logits() - whole[..., i]).abs().max().item()
            assert difference < close, (i, difference)
        state.push(codes.flatten(1)[:, i])


# -- positions ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", GRIDS)
def test_coordinates_are_those_of_the_raster(rank):
    grid = GRIDS[rank]
    expected = list(itertools.product(*map(range, grid)))
    assert [tuple(at) for at in compute_coords(math.prod(grid), grid[1:]).tolist()] == expected


@pytest.mark.parametrize(("rank", "head_dim"), [(1, 2), (1, 8), (2, 10), (3, 6), (3, 64)])
def test_every_pair_of_channels_turns_along_one_axis_and_axes_share_evenly(rank, head_dim):
    table = compute_rope_frequencies(rank, head_dim)
    assert ((table > 0).sum(dim=0) == 1).all()
    shares = (table > 0).sum(dim=1).tolist()
    assert sum(shares) == head_dim // 2
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("rank", GRIDS)
def test_scores_depend_on_differences_of_coordinates_along_each_axis(rank):
    net = AttentionNet(rank=rank, width=24, num_layers=1, num_heads=2, max_positions=9).double()
    query, key = torch.randn(2, 1, 12, dtype=torch.double)

    def score(query_at, key_at):
        turned = [
            apply_rope(x, net.compute_rope(torch.tensor([at])))
            for x, at in ((query, query_at), (key, key_at))
        ]
        return (turned[0] * turned[1]).sum()

    here, there = [7, 3, 9][:rank], [2, 5, 4][:rank]
    expected = score(here, there)
    for axis in range(rank):
        for shift in (1, 40, 3000):
            moved = [[x + shift * (a == axis) for a, x in enumerate(at)] for at in (here, there)]
            torch.testing.assert_close(score(*moved), expected, rtol=0, atol=1e-9)
            assert (score(moved[0], there) - expected).abs() > 1e-4


@pytest.mark.parametrize("rank", GRIDS)
def test_turning_is_multiplying_complex_numbers(rank):
    net = AttentionNet(rank=rank, width=12, num_layers=1, num_heads=1, max_positions=9).double()
    places = compute_coords(math.prod(GRIDS[rank]), GRIDS[rank][1:])
    x = torch.randn(2, len(places), 12, dtype=torch.double)
    turned = apply_rope(x, net.compute_rope(places))
    for i, at in enumerate(places.tolist()):
        for pair, each in enumerate(compute_rope_frequencies(rank, 12).T.tolist()):
            angle = sum(a * b for a, b in zip(at, each, strict=True))
            z = torch.complex(x[:, i, pair], x[:, i, pair + 6]) * complex(
                math.cos(angle), math.sin(angle)
            )
            torch.testing.assert_close(turned[:, i, pair], z.real)
            torch.testing.assert_close(turned[:, i, pair + 6], z.imag)


@pytest.mark.parametrize("last", [1, 2, 6, 7])
def test_each_of_the_last_positions_attends_to_itself_and_all_before(last):
    query, key, value = torch.randn(3, 2, 3, 7, 4, dtype=torch.double)
    given = attend(query[:, :, -last:], key, value)
    for i in range(7 - last, 7):
        scores = (query[:, :, i, None] * key[:, :, : i + 1]).sum(dim=-1) / 2  # of sqrt(4)
        expected = (scores.softmax(dim=-1)[..., None] * value[:, :, : i + 1]).sum(dim=2)
        torch.testing.assert_close(given[:, :, i - 7], expected)


# -- step by step ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("num_codebooks", [1, 2])
@pytest.mark.parametrize("rank", GRIDS)
@torch.inference_mode()
def test_prefill_of_every_length_equals_stepping(rank, num_codebooks):
    prior, grid = build_small_prior(rank, num_codebooks=num_codebooks), GRIDS[rank]
    codes = torch.randint(5, (2, *grid, num_codebooks)).squeeze(-1)
    whole = prior.logits(codes).flatten(2)
    for positions in range(1, math.prod(grid)):
        state = prior.init_state(2, grid)
        state.prefill(codes, positions)
        assert_steps(state, codes, whole, 1e-9, first=positions * num_codebooks)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "close"), [(torch.double, 1e-9), (torch.float, 1e-5)])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("rank", GRIDS)
@torch.inference_mode()
def test_stepping_gives_the_logits_of_the_whole_under_every_condition(rank, kind, dtype, close):
    prior, grid = build_small_prior(rank, dtype, SPECS[kind]), GRIDS[rank]
    codes, cond = torch.randint(5, (2, *grid)), make_cond(SPECS[kind], grid, dtype=dtype)
    whole = prior.logits(codes, cond).flatten(2)
    for positions, asked_every in ((0, 1), (0, 3), (3, 1), (5, 2)):
        state = prior.init_state(2, grid, cond)
        if positions:
            state.prefill(codes, positions)
        assert_steps(state, codes, whole, close, first=positions, asked_every=asked_every)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("rank", GRIDS)
@torch.inference_mode()
def test_continuing_beyond_the_grid_equals_the_longer_grid(rank, kind):
    prior, inner = build_small_prior(rank, cond=SPECS[kind]), GRIDS[rank][1:]
    grid, per_step = (7, *inner), SPECS[kind].get("actions_per_code", 1)
    codes, cond = torch.randint(5, (2, *grid)), make_cond(SPECS[kind], grid)
    whole = prior.logits(codes, cond).flatten(2)
    for asked_every in (1, 3, 9):
        state = prior.init_state(2, (2, *inner), slice_cond(cond, slice(2), per_step))
        state.prefill(codes, math.prod(inner))
        for first, last in ((1, 2), (2, 3), (3, 6), (6, 7)):
            if first > 1:
                state.set_condition(slice_cond(cond, slice(first, last), per_step), last - first)
            until = last * math.prod(inner)
            assert_steps(
                state,
                codes,
                whole[..., :until],
                1e-9,
                first=first * math.prod(inner),
                asked_every=asked_every,
            )


@pytest.mark.parametrize("kind", ["actions", "local"])
@torch.inference_mode()
def test_a_condition_of_too_few_steps_is_asked_for_and_then_sampling_continues(kind):
    prior = build_small_prior(2, cond=SPECS[kind])
    codes, cond = torch.randint(5, (1, 3, 5)), make_cond(SPECS[kind], (3, 5), batch=1)
    per_step = SPECS[kind].get("actions_per_code", 1)
    state = prior.init_state(1, (1, 5), slice_cond(cond, slice(1), per_step))
    state.prefill(codes[:, :1], 5)
    with pytest.raises(ValueError, match=r"covers 1 steps .* set the condition of the next"):
        state.logits()
    state.set_condition(slice_cond(cond, slice(1, 3), per_step), 2)
    assert_steps(state, codes, prior.logits(codes, cond).flatten(2), 1e-9, first=5)


@pytest.mark.parametrize("rank", GRIDS)
def test_a_stream_is_the_longer_grid_until_the_prior_takes_no_more(rank):
    prior, inner = (
        build_small_prior(rank, max_positions=5 * math.prod(GRIDS[rank][1:])),
        GRIDS[rank][1:],
    )
    steps = stream(prior, inner, batch=2, seed=3)
    drawn = torch.stack([next(steps) for _ in range(5)], dim=1)
    assert torch.equal(drawn, generate(prior, (5, *inner), batch=2, seed=3, method="full"))
    with pytest.raises(ValueError, match=f"the grid has {6 * math.prod(inner)} positions"):
        next(steps)


@torch.inference_mode()
def test_memory_is_laid_out_for_the_grid_and_doubles_beyond_it():
    state = build_small_prior(2, max_positions=50).init_state(1, (2, 5))
    sizes, places = [], set()
    for _ in range(50):
        state.logits()
        state.push(torch.zeros(1, dtype=torch.long))
        sizes.append(state.net.kv_cache.shape[-2])
        places.add((sizes[-1], state.net.kv_cache.data_ptr()))
    assert sizes == [10] * 10 + [20] * 10 + [40] * 20 + [50] * 10
    assert len(places) == 4


@torch.inference_mode()
def test_codes_that_are_known_go_through_the_network_together(monkeypatch):
    prior, grid = build_small_prior(3), GRIDS[3]
    run_blocks, ran = prior.net.run_blocks, []
    monkeypatch.setattr(
        prior.net,
        "run_blocks",
        lambda x, *given: ran.append(x.shape[1]) or run_blocks(x, *given),
    )
    state, codes = prior.init_state(1, grid), torch.randint(5, (1, *grid))
    state.prefill(codes, 7)
    for i in range(7, 12):
        state.push(codes.flatten(1)[:, i])
    state.logits()
    state.logits()
    state.push(codes.flatten(1)[:, 12])
    state.logits()
    assert ran == [13, 1]


def test_the_state_lives_outside_the_modules_and_samplers_can_share_a_prior():
    prior, codes = build_small_prior(3), torch.randint(5, (1, *GRIDS[3]))
    names = [set(vars(module)) for module in prior.modules()]
    states = [prior.init_state(1, GRIDS[3]) for _ in range(2)]
    with torch.no_grad():
        for code in codes.flatten():
            assert torch.equal(*[state.logits() for state in states])
            for state in states:
                state.push(code[None])
    assert [set(vars(module)) for module in prior.modules()] == names


# -- conditions -----------------------------------------------------------------------------


@pytest.mark.parametrize("rank", GRIDS)
def test_every_condition_reaches_the_logits(rank):
    spec, grid = SPECS["all"], GRIDS[rank]
    prior, codes = build_small_prior(rank, cond=spec), torch.randint(5, (2, *grid))
    cond = make_cond(spec, grid)
    other = Cond(
        class_id=(cond.class_id + 1) % 3,
        speaker=(cond.speaker + 1) % 2,
        actions=(cond.actions + 1) % 4,
        local=-cond.local,
    )
    logits = prior.logits(codes, cond)
    for name in ("class_id", "speaker", "actions", "local"):
        changed = prior.logits(codes, Cond(**{**vars(cond), name: getattr(other, name)}))
        assert (changed != logits).flatten(2).any(dim=1).all(), name
    assert not torch.allclose(prior.logits(codes), logits)


@pytest.mark.parametrize("rank", GRIDS)
def test_a_condition_of_a_step_changes_its_own_positions_and_none_before(rank):
    grid, inner = GRIDS[rank], math.prod(GRIDS[rank][1:])
    codes = torch.randint(5, (1, *grid))
    prior, cond = (
        build_small_prior(rank, cond=SPECS["actions"]),
        make_cond(SPECS["actions"], grid, batch=1),
    )
    logits = prior.logits(codes, cond)
    for step in range(grid[0] * 2):
        actions = cond.actions.clone()
        actions[:, step] = (actions[:, step] + 1) % 4
        same = (prior.logits(codes, Cond(actions=actions)) == logits).flatten(2).all(dim=1)[0]
        assert same[: step // 2 * inner].all()
        assert not same[step // 2 * inner :].any()
    prior, cond = (
        build_small_prior(rank, cond=SPECS["local"]),
        make_cond(SPECS["local"], grid, batch=1),
    )
    logits = prior.logits(codes, cond)
    for i in range(math.prod(grid)):
        local = cond.local.clone()
        local.flatten(2)[..., i] += 1
        same = (prior.logits(codes, Cond(local=local)) == logits).flatten(2).all(dim=1)[0]
        assert same[:i].all()
        assert not same[i:].any()


def test_a_prior_without_conditions_has_no_weights_for_them():
    assert not [name for name, _ in build_small_prior(3).named_parameters() if "cond" in name]
    names = [name for name, _ in build_small_prior(3, cond=SPECS["actions"]).named_parameters()]
    assert "net.blocks.1.cond_proj.weight" in names
    assert "net.blocks.1.cond_proj.bias" not in names
    with pytest.raises(ValueError, match="was not built to take class_id"):
        build_small_prior(2).logits(torch.zeros(1, 4, 5).long(), Cond(class_id=torch.tensor([0])))


# -- refusals, dropout, learning ------------------------------------------------------------


def test_a_grid_of_too_many_positions_is_refused_in_words():
    prior = build_small_prior(3, max_positions=30)
    message = (
        r"the grid has 32 positions, but this prior supports at most 30; build it with a larger "
        r"max_positions and train it on such grids"
    )
    with pytest.raises(ValueError, match=message):
        prior.logits(torch.zeros(1, 4, 2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=message):
        prior.init_state(1, (4, 2, 4))
    with torch.inference_mode():
        state, code = prior.init_state(1, (2, 2, 4)), torch.zeros(1, dtype=torch.long)
        for _ in range(24):
            state.push(code)
        for go_on in (state.logits, lambda: state.push(code)):
            with pytest.raises(ValueError, match=message):
                go_on()


def test_widths_that_cannot_be_shared_out_are_refused_in_words():
    with pytest.raises(ValueError, match="an even width / num_heads, got 2, 4, 4096 and width 12"):
        build_small_prior(1, num_heads=4)
    with pytest.raises(ValueError, match="at rank 3 width / num_heads must be at least 6"):
        build_small_prior(3, width=8)
    with pytest.raises(ValueError, match=r"grid must have 3 axes, got \(4, 5\)"):
        build_small_prior(3).init_state(1, (4, 5))


def test_dropout_is_for_training_only():
    prior, codes = build_small_prior(2, dropout=0.5), torch.randint(5, (1, 4, 5))
    assert torch.equal(prior.logits(codes), prior.logits(codes))
    prior.train()
    assert not torch.allclose(prior.logits(codes), prior.logits(codes))
