"""Record first-person episodes with their actions in the free mazes of ViZDoom.

The default scenario is `my_way_home`, rooms connected by corridors. The textures are from the
Freedoom project: free to use and to redistribute.

Not here: the agent that chooses the actions (maze_agent.py), reading the episodes (episodes.py).
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vqvideo.atomic import replace_file
from vqvideo.data.metadata import METADATA_NAME, Item, Split, write_metadata
from vqvideo.media import from_uint8, write_video
from vqvideo.recipes.worlds.maze_agent import FloorPlan, MazeAgent

NUM_GAME_SEEDS = 2**32
TICS_PER_FRAME = 4
FPS = 35 / TICS_PER_FRAME  # Doom runs at 35 tics a second

SCENARIOS = ("my_way_home", "health_gathering_supreme")
"""Mazes on one level: rooms connected by corridors; and an outdoor garden with hedge-like walls, a
damaging floor and bottles on it. The two have no textures in common."""

# Buttons of each action: turn left, turn right, move forward.
_BUTTONS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1))


def record_maze(
    out: str | Path,
    *,
    num_episodes: int = 200,
    num_frames: int = 101,
    size: tuple[int, int] = (64, 64),
    scenario: str = "my_way_home",
    seed: int = 0,
    test_fraction: float = 0.1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Record episodes of an agent in a maze as videos with one action between two frames.

    For each episode, write `episode_00000.mp4` and `episode_00000.actions.npy`, int8
    `[num_frames - 1]`: `actions[t]`, an index into `ACTIONS`, leads from frame t to frame t + 1.
    `metadata.jsonl` is written last: a folder that has it is complete.

    Args:
        out: a new or empty folder.
        num_episodes: number of episodes; each starts at a random position.
        num_frames: frames per episode, at 8.75 frames/s.
        size: even (height, width) of a frame. The game renders 240x320; the largest centered crop
            with the aspect ratio of `size` is averaged down, so that nothing is distorted and a
            square frame shows less of the sides.
        scenario: one of `SCENARIOS`.
        seed: episode i depends only on `seed + i`.
        test_fraction: fraction of episodes, rounded, in the split "test": the last ones.
        overwrite: whether to remove earlier episodes in `out`. Other files in the folder remain.
        progress: called with (episodes recorded, `num_episodes`) after each episode.

    Returns:
        The path of `metadata.jsonl`.

    Raises:
        ImportError: vizdoom is not installed.
        FileExistsError: `out` is not empty and `overwrite` is False.
        ValueError: an argument is out of range; the message names it.
    """
    _check_arguments(num_episodes, num_frames, size, scenario, test_fraction)
    if not 0 <= seed <= NUM_GAME_SEEDS - num_episodes:
        raise ValueError(
            f"seed must lie in [0, 2**32 - num_episodes], since the game has seeds of 32 bits, "
            f"got {seed}"
        )
    out, items = Path(out).absolute(), []
    num_train = num_episodes - round(num_episodes * test_fraction)
    with _open_game(scenario) as game:
        _prepare_folder(out, overwrite)
        for index in range(num_episodes):
            frames, actions = _record_episode(game, seed + index, num_frames, size)
            video = out / f"episode_{index:05d}.mp4"
            write_video(video, from_uint8(torch.from_numpy(frames).permute(3, 0, 1, 2)), FPS)
            _save_actions(video.with_suffix(".actions.npy"), actions)
            split: Split = "train" if index < num_train else "test"
            items.append(Item(video, split=split, actions=video.with_suffix(".actions.npy")))
            if progress is not None:
                progress(index + 1, num_episodes)
    return write_metadata(out, items)


def _check_arguments(
    num_episodes: int, num_frames: int, size: tuple[int, int], scenario: str, fraction: float
) -> None:
    if num_episodes < 1:
        raise ValueError(f"expected num_episodes of at least 1, got {num_episodes}")
    if num_frames < 2:
        raise ValueError(f"expected num_frames of at least 2, got {num_frames}")
    if min(size) < 2 or any(length % 2 for length in size):
        raise ValueError(f"expected size to be an even height and an even width, got {size}")
    if scenario not in SCENARIOS:
        raise ValueError(f"expected scenario to be {' or '.join(SCENARIOS)}, got {scenario!r}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"expected test_fraction between 0 and 1, got {fraction}")


def _prepare_folder(out: Path, overwrite: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not overwrite and any(out.iterdir()):
        raise FileExistsError(
            f"folder {str(out)!r} is not empty; choose another, or replace the episodes in it "
            "with overwrite=True"
        )
    # Remove metadata.jsonl first: an interrupted run must not leave an incorrect one.
    for pattern in (METADATA_NAME, "episode_*.mp4", "episode_*.actions.npy"):
        for path in out.glob(pattern):
            path.unlink()


@contextlib.contextmanager
def _open_game(scenario: str) -> Iterator[Any]:  # vizdoom.DoomGame, an optional import
    try:
        import vizdoom
    except ImportError as error:
        raise ImportError(
            "recording maze episodes requires vizdoom; install it with: pip install 'vqvideo[maze]'"
        ) from error
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario}.cfg"))
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X240)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for part in ("hud", "weapon", "crosshair", "decals", "particles", "messages", "screen_flashes"):
        getattr(game, f"set_render_{part}")(False)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons([button.TURN_LEFT, button.TURN_RIGHT, button.MOVE_FORWARD])
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
    game.set_sectors_info_enabled(True)
    game.set_objects_info_enabled(True)
    game.set_episode_timeout(0)  # no time limit: the caller decides the length
    game.add_game_args("+sv_cheats 1")
    # The engine reads and writes its settings in the working directory: use a temporary one.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        game.set_doom_config_path(str(Path(folder) / "engine.ini"))
        with contextlib.chdir(folder):
            game.init()
        try:
            yield game
        finally:
            game.close()


def _record_episode(
    game: Any, seed: int, num_frames: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Record one episode: frames `[t, h, w, 3]` and the actions `[t - 1]` between them."""
    rng = np.random.default_rng(seed)
    game.set_seed(seed)
    game.new_episode()
    game.send_game_command("god")  # a damaging floor must not end the episode
    state = game.get_state()
    lines = [line for sector in state.sectors for line in sector.lines if line.is_blocking]
    walls = [(line.x1, line.y1, line.x2, line.y2) for line in lines]
    goals = [(o.position_x, o.position_y) for o in state.objects if o.name == "GreenArmor"]
    x, y, _ = state.game_variables
    agent = MazeAgent(FloorPlan(walls, goals, start=(x, y)), rng)
    frames, actions = [], []
    # The first steps are not recorded: the player starts at rest, often facing a wall.
    for t in range(-int(rng.integers(12, 24)), num_frames):
        state = game.get_state()
        if state is None:
            raise RuntimeError(f"the episode of seed {seed} ended early, before frame {t}")
        x, y, angle = state.game_variables
        action = agent.act((x, y), angle)
        if t >= 0:
            frames.append(_crop_and_resize(state.screen_buffer, size))
            actions.append(action)
        game.make_action(list(_BUTTONS[action]), TICS_PER_FRAME)
    return np.stack(frames), np.array(actions[:-1], dtype=np.int8)


def _crop_and_resize(screen: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Take the largest centered crop with the aspect ratio of `size` and average it down."""
    height, width = screen.shape[:2]
    scale = min(height / size[0], width / size[1])
    top, left = (height - size[0] * scale) / 2, (width - size[1] * scale) / 2
    box = (left, top, width - left, height - top)
    image = Image.fromarray(screen).resize((size[1], size[0]), Image.Resampling.BOX, box)
    return np.asarray(image)


def _save_actions(path: Path, array: NDArray[np.int8]) -> None:
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
