"""`vqvideo walk`: a film of a recorded walk beside what a model imagines when told the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.data.episodes import read_episode
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.jobs.maze import PREFIX, open_maze_model, size_of
from vqvideo.jobs.model import check_video_file, output_files
from vqvideo.jobs.told import example_of
from vqvideo.sampling import Sampling

BORDER = 2  # pixels around each picture
DARK, DIM, GREY, LIGHT = -0.8, -0.5, 0.0, 1.0
RED = (0.65, -0.6, -0.75)  # around what is imagined, and beneath the keys that are pressed
UP = (
    "...#...",
    "..###..",
    ".#####.",
    "#######",
    "..###..",
    "..###..",
    "..###..",
)
KEY = len(UP) + 4  # pixels of a key's side


def film_walk(
    file: str | None = None,
    *,
    model: str = "maze",
    out: str = "outputs/walk.gif",
    num_frames: int | None = None,
    temperature: float = 1.0,
    guidance: float | None = None,
    seed: int = 0,
    scale: int = 3,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Film a recording, on the left, and what a model imagines after its first six frames, told the
    same actions, on the right; under them the keys that are pressed, drawn in pixels.

    Args:
        file: a recording of `record_maze`, its `.actions.npy` beside it; None is the one that
            ships beside the weights.
        model: told those actions; see `open_maze_model`.
        out: .gif or .mp4.
        num_frames: of the film, the six real ones included; None is all of the recording.
        temperature: of the prior; 0 takes the most probable codes.
        guidance: how strongly what is done decides, see `vqvideo.sampling.generate`; None is 1.
        seed: of all that is drawn.
        scale: each pixel becomes scale x scale.
        device: see `open_model`.
        overwrite: replace a file that exists.
        progress: called with (codes drawn, all), those of the six real frames included.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before any work is done.
        media.MediaError: the recording cannot be read.
    """
    path, target = _recording(file, model), Path(out)
    _check(path, target, num_frames, scale)
    if path.resolve() == target.resolve():
        raise ValueError(f"{path} is what is filmed; write to another --out")
    Sampling(temperature=temperature)  # raises
    output_files(target, 1, overwrite)
    generator = open_maze_model(model, device)
    beside = path.with_suffix(".actions.npy")
    frames, actions, fps = read_episode(
        path, beside, size=size_of(generator), num_actions=len(ACTIONS), length=num_frames
    )
    number = frames.shape[1]
    if number <= PREFIX:
        raise ValueError(f"{path} has {number} frames, so nothing follows the first {PREFIX}")
    to = next(generator.parameters()).device
    clip = generator.continue_clip(
        frames[None, :, :PREFIX].to(to),
        number - PREFIX,
        actions=actions[None].to(to),
        temperature=temperature,
        guidance=guidance,
        seed=seed,
        progress=progress,
    )
    film = drawn(frames, clip[0].cpu(), [ACTIONS[action] for action in actions.tolist()])
    large = film.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    target.parent.mkdir(parents=True, exist_ok=True)
    write = media.write_gif if target.suffix == ".gif" else media.write_video
    write(target, large, fps, overwrite=overwrite)
    return target


def drawn(real: Tensor, imagined: Tensor, actions: list[str]) -> Tensor:
    """Frames `[3, t, h, w]` side by side, under each pair the keys that led to it."""
    _, number, height, width = real.shape
    film = torch.full((3, number, height + KEY + 4 * BORDER, 2 * width + 3 * BORDER), DARK)
    left, middle = BORDER, width + 2 * BORDER
    red = torch.tensor(RED)[:, None, None, None]
    film[:, PREFIX:, : height + 2 * BORDER, middle - BORDER :] = red
    film[:, :, BORDER : BORDER + height, left : left + width] = real
    film[:, :, BORDER : BORDER + height, middle : middle + width] = imagined
    keys = torch.stack([_keys(action) for action in actions], dim=1)
    start = (film.shape[3] - keys.shape[3]) // 2
    film[:, :, -KEY - BORDER : -BORDER, start : start + keys.shape[3]] = keys
    return film


def _keys(action: str) -> Tensor:
    """Three keys `[3, KEY, 3 KEY + 2 BORDER]`, left, forward and right, the pressed ones red."""
    up = torch.tensor([[mark == "#" for mark in row] for row in UP])
    picture = torch.full((3, KEY, 3 * KEY + 2 * BORDER), DARK)
    for place, (word, arrow) in enumerate(
        {"left": up.T, "forward": up, "right": up.T.flip(1)}.items()
    ):
        pressed = word in action.split()
        key = torch.tensor(RED if pressed else (DIM,) * 3)[:, None, None].repeat(1, KEY, KEY)
        key[:, 2:-2, 2:-2][:, arrow] = LIGHT if pressed else GREY
        begin = place * (KEY + BORDER)
        picture[:, :, begin : begin + KEY] = key
    return picture


def _recording(file: str | None, model: str) -> Path:
    example = example_of(model) if file is None else None
    if file is None and example is None:
        raise ValueError(f"no recording lies beside the weights of {model}; give one")
    return Path(example.file if file is None else file)  # type: ignore[union-attr]


def _check(path: Path, target: Path, num_frames: int | None, scale: int) -> None:
    if num_frames is not None and num_frames <= PREFIX:
        raise ValueError(
            f"num_frames must be above {PREFIX}, those that are given; got {num_frames}"
        )
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    check_video_file(target, media.probe(path).fps)  # raises where there is no such recording
    if not path.with_suffix(".actions.npy").is_file():
        raise ValueError(
            f"nobody knows what was done in {path}: {path.stem}.actions.npy must lie beside it, as "
            f"vqvideo record-maze leaves it"
        )
