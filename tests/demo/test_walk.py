"""Frames of a walk: those of a stream, told what is done, at a temperature that may change."""

import pytest
import torch

import vqvideo
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.demo import Start, Walk, actions_of

SMALL_PRIOR = {"width": 8, "num_layers": 2}


def start_of(number, generator, actions=None):
    _, height, width = generator.sample_shape
    torch.manual_seed(1)
    return Start("noise", torch.rand(3, number, height, width) * 2 - 1, actions)


@pytest.mark.parametrize("known", [0, 1, 5])
def test_the_frames_are_those_of_a_stream_with_the_same_seed_and_actions(walkable, known):
    actions = torch.randint(6, (1, known + 12))
    start = start_of(known, walkable, actions[0, :known]) if known else None
    first = start.frames[None] if known else None
    streamed = torch.cat(list(walkable.stream(first, actions=actions, seed=7, temperature=0.9)))
    walk = Walk(walkable, start, seed=7)
    frames = torch.cat([walk.step(int(action), 0.9) for action in actions[0, known:]])
    assert torch.equal(frames, streamed)


def test_a_model_without_actions_and_with_several_frames_a_code_walks_as_it_streams(small_model):
    generator = vqvideo.load(small_model)
    assert actions_of(generator) == ()
    start = start_of(8, generator)
    frames = generator.stream(start.frames[None], seed=3)
    walk = Walk(generator, start, seed=3)
    for _ in range(2):
        step = walk.step()
        assert step.shape == (4, 3, 64, 64)
        assert torch.equal(step, torch.cat([next(frames) for _ in range(4)]))


def test_what_led_into_the_start_is_none_where_nobody_knows(walkable):
    start = start_of(2, walkable)

    def walked(start):
        walk = Walk(walkable, start)
        walk.step(3)
        return walk.codes

    told = [walked(start._replace(actions=torch.full((2,), action))) for action in range(6)]
    assert torch.equal(walked(start), told[0])
    assert not any(torch.equal(told[0], other) for other in told[1:])


def test_the_temperature_may_change_and_what_is_coldest_has_no_noise(walkable):
    one, other = Walk(walkable, seed=1), Walk(walkable, seed=2)
    for _ in range(5):
        assert torch.equal(one.step(1, 0), other.step(1, 0))
    assert not torch.equal(one.step(1, 1.0), other.step(1, 1.0))


def test_the_codes_are_those_of_the_frame_that_is_shown(walkable):
    start = start_of(3, walkable)
    walk = Walk(walkable, start)
    assert torch.equal(walk.codes, walkable.vqvae.encode(start.frames[None])[0, -1])
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
        (3, "hot", "a temperature is a number, got 'hot'"),
    ],
)
def test_a_wrong_step_is_refused_and_the_walk_goes_on(walkable, action, temperature, message):
    walk, other = Walk(walkable), Walk(walkable)
    with pytest.raises(ValueError, match=message):
        walk.step(action, temperature)
    assert torch.equal(walk.step(3), other.step(3))


def test_actions_of_a_start_that_the_model_does_not_have_are_refused_at_once(walkable):
    with pytest.raises(ValueError, match=r"actions must be integers in \[0, 6\)"):
        Walk(walkable, start_of(2, walkable, torch.tensor([0, 6])))


def test_actions_have_the_names_that_the_model_knows_or_numbers(walkable):
    assert actions_of(walkable) == ACTIONS
    other = vqvideo.build("video", prior={**SMALL_PRIOR, "cond": {"num_actions": 6}})
    assert actions_of(other) == tuple(f"action {i}" for i in range(6))


@pytest.mark.parametrize(
    ("model", "prior", "message"),
    [
        ("image", SMALL_PRIOR, "takes a model of video in colour"),
        ("video", {**SMALL_PRIOR, "cond": {"num_classes": 3}}, "this one is told class_id"),
        ("video", {**SMALL_PRIOR, "cond": {"action_dim": 2}}, "is told actions that are vectors"),
    ],
)
def test_a_model_that_nobody_can_walk_through_is_refused(model, prior, message):
    with pytest.raises(ValueError, match=message):
        actions_of(vqvideo.build(model, prior=prior))


def test_a_model_without_a_prior_is_refused(walkable):
    with pytest.raises(ValueError, match="no prior yet"):
        actions_of(vqvideo.Generator(walkable.vqvae, None, walkable.config))
