"""Recorded walks: the seed decides everything, and actions explain what the frames show."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from vqvideo.data.metadata import METADATA_NAME, read_metadata
from vqvideo.media import read_video
from vqvideo.recipes.worlds import maze_agent
from vqvideo.recipes.worlds import record_maze as maze
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.record_maze import record_maze

pytestmark = pytest.mark.slow

TURN_LEFT, TURN_RIGHT = ACTIONS.index("turn left"), ACTIONS.index("turn right")


@pytest.fixture(scope="module")
def vizdoom():
    return pytest.importorskip("vizdoom")


@pytest.fixture(scope="module")
def short_recording(vizdoom, tmp_path_factory):
    """Two episodes of seven frames, higher than wide."""
    out = tmp_path_factory.mktemp("maze") / "short"
    record_maze(out, num_episodes=2, num_frames=7, size=(48, 32), seed=5, test_fraction=0.5)
    return out


@pytest.fixture(scope="module")
def long_recording(vizdoom, tmp_path_factory):
    """Three walks as they are for training: (brightness `[t, h, w]`, actions `[t - 1]`) each."""
    out = tmp_path_factory.mktemp("maze") / "long"
    record_maze(out, num_episodes=3, num_frames=101)
    return [
        (read_video(item.path).frames.mean(0), torch.from_numpy(np.load(item.actions)).long())
        for item in read_metadata(out)
    ]


@pytest.fixture(scope="module")
def turns(long_recording):
    """Of each long walk the actions and the columns the picture moved by, both `[t - 1]`."""
    return [
        (actions, torch.tensor([estimate_shift(*pair) for pair in pairwise(frames)]).float())
        for frames, actions in long_recording
    ]


def estimate_shift(before: torch.Tensor, after: torch.Tensor, max_shift: int = 20) -> int:
    """Columns by which the picture moved to the right: the best match of the two rows."""
    rows = [frame[20:44] for frame in (before, after)]  # around the horizon
    width = rows[0].shape[1]

    def mismatch(shift: int) -> float:
        old = rows[0][:, max(0, -shift) : width - max(0, shift)]
        new = rows[1][:, max(0, shift) : width - max(0, -shift)]
        return (old - new).square().mean().item()

    return min(range(-max_shift, max_shift + 1), key=mismatch)


def test_a_folder_holds_videos_actions_and_the_table(short_recording):
    names = [f"episode_0000{i}.{end}" for i in (0, 1) for end in ("actions.npy", "mp4")]
    assert sorted(path.name for path in short_recording.iterdir()) == [*names, METADATA_NAME]
    for item in read_metadata(short_recording):
        clip, actions = read_video(item.path), np.load(item.actions)
        assert clip.frames.shape == (3, 7, 48, 32)
        assert clip.fps == 8.75
        assert actions.shape == (6,)
        assert actions.dtype == np.int8
        assert item.actions.name == f"{item.path.stem}.actions.npy"


def test_the_last_episodes_are_for_testing(short_recording):
    assert [item.split for item in read_metadata(short_recording)] == ["train", "test"]


def test_recording_twice_gives_the_same_bytes(short_recording, tmp_path):
    record_maze(tmp_path, num_episodes=2, num_frames=7, size=(48, 32), seed=5, test_fraction=0.5)
    for path in short_recording.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_episode_depends_on_its_seed_and_not_on_those_before(short_recording, tmp_path):
    record_maze(tmp_path, num_episodes=1, num_frames=7, size=(48, 32), seed=6)
    first, second = ((short_recording / f"episode_0000{i}.mp4").read_bytes() for i in (0, 1))
    assert (tmp_path / "episode_00000.mp4").read_bytes() == second
    assert first != second


def test_turning_left_moves_the_image_to_the_right(turns):
    # The second of two equal turns: the first is at half speed, or while the player slides.
    steady = [(a[1:], shifts[1:], a[1:] == a[:-1]) for a, shifts in turns]
    for side, sign in ((TURN_LEFT, 1), (TURN_RIGHT, -1)):
        shifts = torch.cat([sign * shifts[same & (a == side)] for a, shifts, same in steady])
        assert len(shifts) > 10
        assert (shifts > 4).float().mean() > 0.8


def test_actions_stand_between_the_frames_they_join(turns):
    """Moved by one frame either way, they explain the turning of the picture less well."""

    def explained(offset: int) -> float:
        total = 0.0
        for actions, shifts in turns:
            direction = (actions % 3 == 1).float() - (actions % 3 == 2).float()
            total += (direction[1:-1] * shifts.roll(-offset)[1:-1]).mean().item()
        return total

    assert explained(0) > 1.1 * max(explained(-1), explained(1)) > 0


def test_the_player_turns_as_the_actions_say_and_never_else(vizdoom, monkeypatch):
    angles, act = [], maze_agent.MazeAgent.act

    def spy(walker, position, angle):
        angles.append(angle)
        return act(walker, position, angle)

    monkeypatch.setattr(maze_agent.MazeAgent, "act", spy)
    with maze._open_game("my_way_home") as game:
        _, actions = maze._record_episode(game, seed=1, num_frames=61, size=(2, 2))
    turned = (np.diff(angles[-61:]) + 180) % 360 - 180  # degrees to the left
    names = np.array(ACTIONS)[actions]
    assert np.array_equal(turned > 0, [name.endswith("left") for name in names])
    assert np.array_equal(turned < 0, [name.endswith("right") for name in names])


def test_every_action_comes_in_a_fair_share(long_recording):
    counts = torch.cat([actions for _, actions in long_recording]).bincount(minlength=len(ACTIONS))
    assert len(counts) == len(ACTIONS)
    assert (counts / counts.sum()).min() > 0.04


def test_an_episode_keeps_its_distance_from_walls_and_gets_around(vizdoom, tmp_path, monkeypatch):
    """The screen is rarely filled by a wall: in the middle there is something farther away."""
    monkeypatch.chdir(tmp_path)  # an engine that is started by hand leaves a folder behind
    depths, places = [], []
    with maze._open_game("my_way_home") as game:
        game.close()
        game.set_depth_buffer_enabled(True)
        game.init()

        def look(screen, size):
            state = game.get_state()
            depths.append(np.median(state.depth_buffer[110:130, 120:200]))
            places.append(maze_agent.get_room(state.game_variables[:2]))
            return np.zeros((2, 2, 3), dtype=np.uint8)

        monkeypatch.setattr(maze, "_crop_and_resize", look)
        for seed in range(4):
            maze._record_episode(game, seed, num_frames=101, size=(64, 64))
    assert np.mean(np.array(depths) < 8) < 0.1  # 8 is 60 map units: less than half a room
    assert len(set(places)) > 12


@pytest.mark.parametrize(
    ("size", "expected"),
    [((2, 2), [[22, 25], [52, 55]]), ((2, 4), [[26, 28, 30, 32], [46, 48, 50, 52]])],
)
def test_a_frame_is_the_middle_of_the_screen_averaged_down(size, expected):
    row, column = np.mgrid[0:6, 0:8]
    screen = np.stack([10 * row + column] * 3, axis=-1).astype(np.uint8) + 10
    assert maze._crop_and_resize(screen, size)[..., 0].tolist() == expected


def test_a_folder_with_files_is_recorded_over_only_when_asked(vizdoom, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty; choose another, or .*overwrite=True"):
        record_maze(tmp_path, num_episodes=1, num_frames=2)
    (tmp_path / "episode_00009.mp4").write_text("from a longer recording")
    record_maze(tmp_path, num_episodes=1, num_frames=2, overwrite=True)
    assert [item.path.name for item in read_metadata(tmp_path)] == ["episode_00000.mp4"]
    assert not (tmp_path / "episode_00009.mp4").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_recording_leaves_no_table(vizdoom, tmp_path):
    def stop(done: int, total: int) -> None:
        assert (done, total) == (1, 2)
        raise KeyboardInterrupt

    (tmp_path / METADATA_NAME).write_text(json.dumps({"file": "episode_00000.mp4"}))
    with pytest.raises(KeyboardInterrupt):
        record_maze(tmp_path, num_episodes=2, num_frames=2, overwrite=True, progress=stop)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["episode_00000.actions.npy", "episode_00000.mp4"]


def test_another_scenario_is_another_labyrinth_that_an_episode_runs_to_the_end(vizdoom, tmp_path):
    record_maze(tmp_path, num_episodes=1, num_frames=301, scenario="health_gathering_supreme")
    (item,) = read_metadata(tmp_path)
    frames = read_video(item.path).frames
    assert frames.shape == (3, 301, 64, 64)  # one who is hurt by the floor is dead after 180
    lower = frames[:, :, 48:].mean(dim=(1, 2, 3))
    assert lower[1] > lower[0] + 0.05 and lower[1] > lower[2] + 0.05  # it is green
    moves = frames.diff(dim=1).abs().mean(dim=(0, 2, 3))
    assert (moves > 0.01).double().mean() > 0.8


def test_the_engine_leaves_nothing_where_it_is_started(vizdoom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_maze("relative/out", num_episodes=1, num_frames=2)
    assert [path.name for path in tmp_path.iterdir()] == ["relative"]
    assert (tmp_path / "relative/out" / METADATA_NAME).exists()


def test_without_vizdoom_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(ImportError, match=r"pip install 'vqvideo\[maze\]'"):
        record_maze(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_episodes": 0}, "num_episodes of at least 1, got 0"),
        ({"num_frames": 1}, "num_frames of at least 2, got 1"),
        ({"size": (64, 63)}, r"an even height and an even width, got \(64, 63\)"),
        ({"scenario": "home"}, "my_way_home or health_gathering_supreme, got 'home'"),
        ({"test_fraction": 10}, "test_fraction between 0 and 1, got 10"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        record_maze(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
