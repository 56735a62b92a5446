"""Streams: steps when they are asked for, the codes of a longer grid, memory that does not grow."""

import itertools
import math

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.priors import PRIORS, get_default_prior
from vqvideo.sampling import generate, stream

INNER = {1: (), 2: (5,), 3: (3, 5)}
ACTIONS = {"num_actions": 4, "actions_per_code": 2, "num_classes": 2}


def build_small_prior(rank, name=None, **options):
    torch.manual_seed(rank)
    sizes = {"width": 8, "num_layers": 3, **options}
    prior = PRIORS.build(name or get_default_prior(rank), sizes, rank=rank, codebook_size=7)
    prior = prior.double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def make_cond(actions, step=slice(None)):
    return Cond(actions=actions[:, step], class_id=torch.tensor([1, 0]))


def iter_conds(actions, first=0):
    steps = range(first, actions.shape[1] // 2)
    return (make_cond(actions, slice(2 * step, 2 * step + 2)) for step in steps)


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [None, 2.0])
@pytest.mark.parametrize("known", [0, 1, 3])
@pytest.mark.parametrize("rank", INNER)
def test_steps_conditioned_one_by_one_are_those_of_the_whole(rank, known, guidance_scale):
    prior, steps = build_small_prior(rank, cond=ACTIONS), 8
    actions = torch.randint(4, (2, 2 * steps))
    options = {"batch": 2, "guidance_scale": guidance_scale, "seed": 3}
    whole = generate(prior, (steps, *INNER[rank]), cond=make_cond(actions), **options)
    drawn = stream(
        prior,
        INNER[rank],
        known=whole[:, :known],
        cond=make_cond(actions, slice(2 * known)),
        conds=iter_conds(actions, known),
        **options,
    )
    assert torch.equal(torch.stack(list(drawn), dim=1), whole[:, known:])


@pytest.mark.slow
@pytest.mark.parametrize("num_codebooks", [1, 2])
@pytest.mark.parametrize("rank", INNER)
def test_without_conditions_a_stream_has_no_end(rank, num_codebooks):
    prior = build_small_prior(rank, num_codebooks=num_codebooks)
    drawn = list(itertools.islice(stream(prior, INNER[rank], batch=2, seed=1), 30))
    whole = generate(prior, (30, *INNER[rank]), batch=2, seed=1)
    assert torch.equal(torch.stack(drawn, dim=1), whole)


@pytest.mark.parametrize("method", ["cached", "fused"])
def test_the_temperature_may_change_from_step_to_step(method):
    prior = build_small_prior(3).float()
    asked = []

    def temperatures():
        for temperature in (0.5, 0.5, 0, 2.0):
            asked.append(temperature)
            yield temperature

    if method == "fused":
        pytest.importorskip("numba")
    drawn = stream(prior, INNER[3], temperature=temperatures(), seed=4, method=method)
    first = torch.stack([next(drawn), next(drawn)], dim=1)
    assert asked == [0.5, 0.5]  # each when its step is asked for
    whole = generate(prior, (2, *INNER[3]), temperature=0.5, seed=4, method=method)
    assert torch.equal(first, whole)
    coldest = stream(prior, INNER[3], known=first, temperature=0, method=method)
    third = next(drawn)
    assert torch.equal(third, next(coldest))
    known = torch.cat([first, third[:, None]], dim=1)
    hot = stream(prior, INNER[3], known=known, temperature=2.0, seed=4, method=method)
    assert torch.equal(next(drawn), next(hot))
    assert next(drawn, None) is None  # it ends where they end


def test_a_sequence_continues_beyond_what_its_history_has_room_for():
    prior = build_small_prior(1, num_layers=5)
    drawn = torch.stack(list(itertools.islice(stream(prior, ()), 2200)), dim=1)
    assert torch.equal(drawn, generate(prior, (2200,)))
    with torch.no_grad():  # and the pass over all of it would say the same
        logits = prior.logits(drawn)[..., -1]
        late = prior.logits(drawn[:, -200:])[..., -1]
    torch.testing.assert_close(late, logits)  # it looks no further back


def get_state_size(state):
    """Numbers in all tensors that a state holds on to, in lists and objects of its own too."""
    seen, total, waiting = set(), 0, [state]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(thing, list | tuple):
            waiting += thing
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif type(thing).__module__.startswith("vqvideo") and id(thing) not in seen:
            seen.add(id(thing))
            if not isinstance(thing, torch.nn.Module):
                waiting.append(vars(thing))
    return total


@pytest.mark.parametrize("rank", INNER)
def test_memory_does_not_grow(rank):
    prior = build_small_prior(rank)
    state = prior.init_state(1, (1, *INNER[rank]))
    codes, sizes = torch.zeros(1, dtype=torch.int64), []
    with torch.no_grad():
        for step in range(60):
            for _ in range(max(1, torch.Size(INNER[rank]).numel())):
                state.logits()
                state.push(codes)
            if step in (5, 59):
                sizes.append(get_state_size(state))
    assert sizes[0] == sizes[1] > 0


def test_an_action_is_asked_for_when_its_step_begins_and_not_before():
    asked = []

    def actions():
        for step in range(3):
            asked.append(step)
            yield Cond(actions=torch.full((1, 2), step), class_id=torch.tensor([0]))

    steps = stream(build_small_prior(3, cond=ACTIONS), INNER[3], conds=actions())
    assert asked == []
    for step, _ in enumerate(steps):
        assert asked == list(range(step + 1))
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("rank", INNER)
def test_a_condition_set_for_some_steps_does_not_hold_for_more(rank):
    prior = build_small_prior(rank, cond=ACTIONS)
    cond = Cond(actions=torch.zeros(1, 4).long(), class_id=torch.tensor([0]))
    known = torch.zeros(1, 2, *INNER[rank], dtype=torch.int64)
    with pytest.raises(ValueError, match=r"vary from step to step: pass .* as conds, one Cond"):
        stream(prior, INNER[rank], known=known, cond=cond)
    state = prior.init_state(1, (2, *INNER[rank]), cond)
    state.prefill(known, known[0].numel())
    with pytest.raises(ValueError, match=r"covers 2 steps along the first axis .* all are done"):
        state.logits()


@pytest.mark.parametrize("rank", INNER)
def test_a_condition_may_come_after_unconditional_steps(rank):
    prior = build_small_prior(rank, cond=ACTIONS)
    known = torch.zeros(1, 2, *INNER[rank], dtype=torch.int64)
    cond = Cond(actions=torch.tensor([[1, 2]]), class_id=torch.tensor([1]))
    told, free = (
        next(stream(prior, INNER[rank], known=known, conds=[each], batch=1))
        for each in (cond, Cond(actions=torch.tensor([[0, 0]]), class_id=torch.tensor([0])))
    )
    state = prior.init_state(1, (2, *INNER[rank]))
    state.prefill(known, known[0].numel())
    state.set_condition(cond, 1)
    other = prior.init_state(1, (2, *INNER[rank]))
    other.prefill(known, known[0].numel())
    assert not torch.allclose(state.logits(), other.logits())
    assert told.shape == free.shape == (1, *INNER[rank])


@pytest.mark.parametrize("name", [None, "transformer"])
@pytest.mark.parametrize("rank", INNER)
def test_the_condition_of_a_step_is_set_before_its_logits_are_computed(rank, name):
    sizes = {"num_heads": 1} if name else {}
    prior = build_small_prior(rank, name, cond=ACTIONS, **sizes)
    cond = Cond(actions=torch.tensor([[1, 2]]), class_id=torch.tensor([1]))
    state = prior.init_state(1, (1, *INNER[rank]), cond)
    state.logits()
    with pytest.raises(ValueError, match="set its condition before its first logits are computed"):
        state.set_condition(cond, 1)


@pytest.mark.parametrize("rank", INNER)
def test_a_state_keeps_no_gradients(rank):
    prior = build_small_prior(rank, cond=ACTIONS)
    cond = Cond(actions=torch.tensor([[1, 2]]), class_id=torch.tensor([1]))
    state = prior.init_state(1, (1, *INNER[rank]), cond)
    assert not state.logits().requires_grad
    state.push(torch.tensor([3]))


def test_samples_can_have_seeds_of_their_own():
    prior = build_small_prior(2)
    together = generate(prior, (3, 5), batch=3, seed=[4, 9, 4])
    assert torch.equal(together[0], together[2])
    for sample, seed in ((0, 4), (1, 9)):
        assert torch.equal(together[sample : sample + 1], generate(prior, (3, 5), seed=seed))
    with pytest.raises(ValueError, match="3 samples need 3 seeds, got 2"):
        generate(prior, (3, 5), batch=3, seed=[4, 9])
    with pytest.raises(ValueError, match=r"seed must be an integer, got 1\.5"):
        generate(prior, (3, 5), seed=1.5)


def test_a_class_alone_holds_for_ever():
    prior = build_small_prior(3, cond={"num_classes": 2})
    cond = Cond(class_id=torch.tensor([1]))
    drawn = torch.stack(list(itertools.islice(stream(prior, INNER[3], cond=cond), 6)), dim=1)
    assert torch.equal(drawn, generate(prior, (6, *INNER[3]), cond=cond))


def test_rows_that_know_their_place_have_no_rows_beyond():
    prior = build_small_prior(2, coordinates=True)
    with pytest.raises(ValueError, match=r"rows of its grid \(coordinates\), so it does not"):
        stream(prior, INNER[2])
    with pytest.raises(ValueError, match="cannot continue beyond its grid"):
        prior.init_state(1, (2, 5)).set_condition(None, 1)


class StatelessPrior(torch.nn.Module):
    rank, codebook_size, num_codebooks, is_unbounded = 3, 7, 1, True
    device = torch.device("cpu")

    @property
    def code_prior(self):
        return self

    def order(self, shape):
        return range(math.prod(shape))

    def init_state(self, batch, grid, cond):
        return None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_shape": (3,)}, r"inner_shape must have 2 axes, got \(3,\)"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"method": "full"}, "must be auto, fused or cached for a stream, got 'full'"),
        ({"top_k": 8}, "top_k is 8, but there are 7 codes"),
        ({"guidance_scale": 2.0}, "guidance_scale must be a finite number and requires a cond"),
        ({"known": torch.zeros(1, 2, 3, 4).long()}, r"known must be integers \[1, steps, 3, 5\]"),
        ({"known": torch.zeros(1, 2, 3, 5)}, "known must be integers"),
        ({"known": torch.full((1, 2, 3, 5), 7)}, r"known codes must lie in \[0, 7\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        stream(build_small_prior(3), **{"inner_shape": INNER[3], **options})


def test_a_prior_without_a_state_cannot_stream():
    with pytest.raises(ValueError, match="no step-by-step state, so it does not support streaming"):
        next(stream(StatelessPrior(), INNER[3]))


def test_between_two_steps_the_prior_is_as_it_was():
    prior = build_small_prior(3).train()
    steps = stream(prior, INNER[3])
    for _ in range(2):
        codes = next(steps)
        assert prior.training
        assert torch.is_grad_enabled()
        prior.logits(codes[:, None]).sum().backward()  # the codes can be learnt from
