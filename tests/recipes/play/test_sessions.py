"""Visitors: apart from each other, one frame at a time, forgotten when they have gone."""

import threading

import pytest
import torch

from vqvideo import media
from vqvideo.recipes.worlds.play import SessionStore, Start
from vqvideo.recipes.worlds.play.rollout import Rollout
from vqvideo.recipes.worlds.play.session import (
    EVICTION_TIMEOUT_SECONDS,
    IDLE_TIMEOUT_SECONDS,
    MAX_SESSIONS,
    BusyError,
    TooManySessionsError,
)


@pytest.fixture
def fake_time():
    return [0.0]


@pytest.fixture
def sessions(action_model, fake_time):
    sessions = SessionStore(action_model, clock=lambda: fake_time[0])
    yield sessions
    sessions.close()


@pytest.fixture
def sequential_seeds(monkeypatch):
    """Seeds 0, 1, 2, ... instead of random ones."""
    seeds = iter(range(1000))
    monkeypatch.setattr(
        "vqvideo.recipes.worlds.play.session.secrets.randbits", lambda bits: next(seeds)
    )


def test_one_visitor_does_not_disturb_another(sessions, action_model, sequential_seeds):
    alone = [Rollout(action_model, seed=0), Rollout(action_model, seed=1)]
    for walk in alone:
        walk.step()
    together = [sessions.open(None)[1], sessions.open(None)[1]]
    for action in (3, 3, 4, 1):
        for walk, session, own in zip(alone, together, (action, 5 - action), strict=True):
            walk.step(own)
            session.step(own, 1.0)
            assert session.view["codes"] == walk.codes.tolist()


def test_nobody_can_guess_the_word_of_another(sessions):
    words = {sessions.open(None)[0] for _ in range(3)}
    assert len(words) == 3
    assert all(len(word) >= 32 for word in words)


def test_a_second_request_while_the_first_is_worked_on_is_busy(sessions):
    _, session = sessions.open(None)
    _, other = sessions.open(None)
    going_on, begun = threading.Event(), threading.Event()
    sessions.executor.submit(lambda: (begun.set(), going_on.wait()))
    begun.wait()
    waiting = threading.Thread(target=session.step, args=(3, 1.0))
    waiting.start()
    while not session._lock.locked():
        pass
    with pytest.raises(BusyError):
        session.step(3, 1.0)
    assert not other._lock.locked()
    going_on.set()
    waiting.join()
    session.step(3, 1.0)
    assert session.view["number"] == 2


def test_the_idle_are_forgotten_when_somebody_comes(sessions, fake_time):
    word, _ = sessions.open(None)
    fake_time[0] = IDLE_TIMEOUT_SECONDS - 1
    assert sessions.find(word) is not None  # and is not idle any more
    fake_time[0] += IDLE_TIMEOUT_SECONDS + 1
    sessions.open(None)
    assert sessions.find(word) is None
    assert len(sessions) == 1


def test_of_too_many_the_session_idle_for_longest_makes_room_and_no_active_one(sessions, fake_time):
    words = [sessions.open(None)[0] for _ in range(MAX_SESSIONS)]
    with pytest.raises(TooManySessionsError, match="16 sessions are open already"):
        sessions.open(None)
    fake_time[0] = EVICTION_TIMEOUT_SECONDS + 1
    assert all(sessions.find(word) for word in words[1:])
    sessions.open(None)
    assert sessions.find(words[0]) is None
    assert len(sessions) == MAX_SESSIONS


def test_a_start_that_fails_leaves_the_session_as_it_was(sessions):
    _, session = sessions.open(None)
    session.step(3, 1.0)
    view = session.view
    with pytest.raises(ValueError, match="divisible"):
        session.restart(Start("odd", torch.zeros(3, 1, 63, 64)))
    assert session.view is view
    session.step(3, 1.0)
    assert session.view["number"] == 2
    with pytest.raises(ValueError, match="divisible"):
        sessions.open(Start("odd", torch.zeros(3, 1, 63, 64)))
    assert len(sessions) == 1


def test_what_was_played_becomes_an_mp4_from_its_start_on(sessions, tmp_path):
    start = Start("gray", torch.zeros(3, 2, 64, 64))
    _, session = sessions.open(start)
    for _ in range(5):
        session.step(3, 1.0)
    (tmp_path / "walk.mp4").write_bytes(session.encode_clip())
    clip = media.read_video(tmp_path / "walk.mp4")
    assert clip.frames.shape == (3, 7, 256, 256)
    assert clip.fps == pytest.approx(8.75)
    assert clip.frames[:, 0].abs().max() < 0.02
    session.restart(start)
    assert len(session.recorded_frames) == 2
