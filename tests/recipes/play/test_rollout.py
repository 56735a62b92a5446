"""Frames of a walk: those of a stream, told what is done, at a temperature that may change."""

import pytest
import torch

import vqvideo
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.play import Rollout, Start, get_action_labels

SMALL_PRIOR = {"width": 8, "num_layers": 2}


def make_start(number, generator, actions=None):
    _, height, width = generator.sample_shape
    torch.manual_seed(1)
    return Start("noise", torch.rand(3, number, height, width) * 2 - 1, actions)


@pytest.mark.parametrize("known", [0, 1, 5])
def test_the_frames_are_those_of_a_stream_with_the_same_seed_and_actions(action_model, known):
    actions = torch.randint(6, (1, known + 12))
    start = make_start(known, action_model, actions[0, :known]) if known else None
    first = start.frames[None] if known else None
    streamed = torch.cat(list(action_model.stream(first, actions=actions, seed=7, temperature=0.9)))
    walk = Rollout(action_model, start, seed=7)
    frames = torch.cat([walk.step(int(action), 0.9) for action in actions[0, known:]])
    assert torch.equal(frames, streamed)


def test_a_rollout_without_actions_and_with_several_frames_a_code_is_the_stream(small_model):
    generator = vqvideo.load(small_model)
    assert get_action_labels(generator) == ()
    start = make_start(8, generator)
    frames = generator.stream(start.frames[None], seed=3)
    walk = Rollout(generator, start, seed=3)
    for _ in range(2):
        step = walk.step()
        assert step.shape == (4, 3, 64, 64)
        assert torch.equal(step, torch.cat([next(frames) for _ in range(4)]))


def test_what_led_into_the_start_is_none_where_nobody_knows(action_model):
    start = make_start(2, action_model)

    def walked(start):
        walk = Rollout(action_model, start)
        walk.step(3)
        return walk.codes

    told = [walked(start._replace(actions=torch.full((2,), action))) for action in range(6)]
    assert torch.equal(walked(start), told[0])
    assert not any(torch.equal(told[0], other) for other in told[1:])


def test_the_temperature_may_change_and_what_is_coldest_has_no_noise(action_model):
    one, other = Rollout(action_model, seed=1), Rollout(action_model, seed=2)
    for _ in range(5):
        assert torch.equal(one.step(1, 0), other.step(1, 0))
    assert not torch.equal(one.step(1, 1.0), other.step(1, 1.0))


def test_the_codes_are_those_of_the_frame_that_is_shown(action_model):
    start = make_start(3, action_model)
    walk = Rollout(action_model, start)
    assert torch.equal(walk.codes, action_model.vqvae.encode(start.frames[None])[0, -1])
    frames = [walk.step(3) for _ in range(2)]
    assert walk.codes.shape == (8, 8)
    assert not torch.equal(frames[0], frames[1])


@pytest.mark.parametrize(
    ("action", "temperature", "message"),
    [
        (6, 1.0, "the actions of this model are: 0 none, 1 turn left, .*; got 6"),
        (-1, 1.0, "got -1"),
        (True, 1.0, "got True"),
        ("left", 1.0, "got 'left'"),
        (3, -1.0, "temperature must be a finite number >= 0, got -1"),
        (3, float("nan"), "temperature must be a finite number"),
        (3, "hot", "temperature must be a number, got 'hot'"),
    ],
)
def test_a_wrong_step_is_refused_and_the_rollout_continues(
    action_model, action, temperature, message
):
    walk, other = Rollout(action_model), Rollout(action_model)
    with pytest.raises(ValueError, match=message):
        walk.step(action, temperature)
    assert torch.equal(walk.step(3), other.step(3))


def test_actions_of_a_start_that_the_model_does_not_have_are_refused_at_once(action_model):
    with pytest.raises(ValueError, match=r"actions must be integers in \[0, 6\)"):
        Rollout(action_model, make_start(2, action_model, torch.tensor([0, 6])))


def test_actions_have_the_names_that_the_model_knows_or_numbers(action_model):
    assert get_action_labels(action_model) == ACTIONS
    other = vqvideo.build("video", prior={**SMALL_PRIOR, "cond": {"num_actions": 6}})
    assert get_action_labels(other) == tuple(f"action {i}" for i in range(6))


@pytest.mark.parametrize(
    ("model", "prior", "message"),
    [
        ("image", SMALL_PRIOR, "play needs a model of RGB video"),
        ("video", {**SMALL_PRIOR, "cond": {"num_classes": 3}}, "one is conditioned on class_id"),
        ("video", {**SMALL_PRIOR, "cond": {"action_dim": 2}}, "conditioned on vectors of actions"),
    ],
)
def test_a_model_without_interactive_rollouts_is_refused(model, prior, message):
    with pytest.raises(ValueError, match=message):
        get_action_labels(vqvideo.build(model, prior=prior))


def test_a_model_without_a_prior_is_refused(action_model):
    with pytest.raises(ValueError, match="no prior, so it cannot generate"):
        get_action_labels(vqvideo.Generator(action_model.vqvae, None, action_model.config))
