"""`vqvideo rollout`: a video of a recorded episode next to a model's rollout of its actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.conditions import find_example
from vqvideo.commands.model import check_output_files, check_video_file
from vqvideo.device import get_device
from vqvideo.recipes.worlds.episodes import read_episode
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.maze_model import NUM_PREFIX_FRAMES, get_frame_size, load_maze_model
from vqvideo.sampling import SamplingParams

BORDER = 2  # pixels around each frame
DARK, DIM, GREY, LIGHT = -0.8, -0.5, 0.0, 1.0
RED = (0.65, -0.6, -0.75)  # border of generated frames, and pressed keys
UP_ARROW = (
    "...#...",
    "..###..",
    ".#####.",
    "#######",
    "..###..",
    "..###..",
    "..###..",
)
KEY_SIZE = len(UP_ARROW) + 4  # side of a key in pixels


def render_rollout(
    file: str | None = None,
    *,
    model: str = "maze",
    out: str = "outputs/rollout.gif",
    num_frames: int | None = None,
    temperature: float = 1.0,
    guidance_scale: float | None = None,
    seed: int = 0,
    scale: int = 3,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a video of a recorded episode next to a model's rollout of the same actions.

    Left: the recording. Right: the rollout, given the first six frames and then only the actions.
    Below: the pressed keys.

    Args:
        file: a recording of `record_maze`, with its `.actions.npy` file; None for the one that
            ships with the weights.
        model: a model conditioned on those actions; see `load_maze_model`.
        out: .gif or .mp4.
        num_frames: number of frames of the video, the six real ones included; None for the whole
            recording.
        temperature: temperature of the prior; 0 takes the most probable codes.
        guidance_scale: guidance scale of the actions, see `vqvideo.sampling.generate`; None for 1.
        seed: seed of the rollout.
        scale: factor by which the video is enlarged.
        device: see `load_model`.
        overwrite: replace an existing file.
        progress: called with (codes done, total codes), including the codes of the real frames.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: the arguments are invalid; raised before any
            work is done.
        media.MediaError: the recording cannot be read.
    """
    path, target = _find_recording(file, model), Path(out)
    _check_options(path, target, num_frames, scale)
    SamplingParams(temperature=temperature)  # raises
    check_output_files(target, 1, overwrite)
    generator = load_maze_model(model, device)
    frames, actions, fps = read_episode(
        path,
        path.with_suffix(".actions.npy"),
        size=get_frame_size(generator),
        num_actions=len(ACTIONS),
        length=num_frames,
    )
    num_new = frames.shape[1] - NUM_PREFIX_FRAMES
    if num_new < 1:
        raise ValueError(
            f"{path} has {frames.shape[1]} frames, so nothing follows the first {NUM_PREFIX_FRAMES}"
        )
    model_device = get_device(generator)
    clip = generator.continue_clip(
        frames[None, :, :NUM_PREFIX_FRAMES].to(model_device),
        num_new,
        actions=actions[None].to(model_device),
        temperature=temperature,
        guidance_scale=guidance_scale,
        seed=seed,
        progress=progress,
    )
    video = draw_frames(frames, clip[0].cpu(), [ACTIONS[action] for action in actions.tolist()])
    enlarged = video.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    target.parent.mkdir(parents=True, exist_ok=True)
    write = media.write_gif if target.suffix == ".gif" else media.write_video
    write(target, enlarged, fps, overwrite=overwrite)
    return target


def draw_frames(real: Tensor, generated: Tensor, actions: list[str]) -> Tensor:
    """Draw clips `[3, t, h, w]` side by side, with the keys that led to each frame below."""
    _, length, height, width = real.shape
    video = torch.full((3, length, height + KEY_SIZE + 4 * BORDER, 2 * width + 3 * BORDER), DARK)
    left, middle = BORDER, width + 2 * BORDER
    red = torch.tensor(RED)[:, None, None, None]
    video[:, NUM_PREFIX_FRAMES:, : height + 2 * BORDER, middle - BORDER :] = red
    video[:, :, BORDER : BORDER + height, left : left + width] = real
    video[:, :, BORDER : BORDER + height, middle : middle + width] = generated
    keys = torch.stack([_draw_keys(action) for action in actions], dim=1)
    start = (video.shape[3] - keys.shape[3]) // 2
    video[:, :, -KEY_SIZE - BORDER : -BORDER, start : start + keys.shape[3]] = keys
    return video


def _draw_keys(action: str) -> Tensor:
    """Draw the keys left, forward, right `[3, KEY_SIZE, 3 KEY_SIZE + 2 BORDER]`; pressed is red."""
    up = torch.tensor([[pixel == "#" for pixel in row] for row in UP_ARROW])
    image = torch.full((3, KEY_SIZE, 3 * KEY_SIZE + 2 * BORDER), DARK)
    for index, (name, arrow) in enumerate(
        {"left": up.T, "forward": up, "right": up.T.flip(1)}.items()
    ):
        pressed = name in action.split()
        key = torch.tensor(RED if pressed else (DIM,) * 3)[:, None, None].repeat(
            1, KEY_SIZE, KEY_SIZE
        )
        key[:, 2:-2, 2:-2][:, arrow] = LIGHT if pressed else GREY
        left = index * (KEY_SIZE + BORDER)
        image[:, :, left : left + KEY_SIZE] = key
    return image


def _find_recording(file: str | None, model: str) -> Path:
    """Return the recording to show: `file`, or the one that ships with the weights."""
    example = find_example(model) if file is None else None
    if file is None and example is None:
        raise ValueError(f"no recording ships with the weights of {model}; give one as FILE")
    return Path(example.file if file is None else file)  # type: ignore[union-attr]


def _check_options(path: Path, target: Path, num_frames: int | None, scale: int) -> None:
    if path.resolve() == target.resolve():
        raise ValueError(f"{path} is the recording; write to another --out")
    if num_frames is not None and num_frames <= NUM_PREFIX_FRAMES:
        raise ValueError(
            f"num_frames must be above {NUM_PREFIX_FRAMES}, the number of real frames; got "
            f"{num_frames}"
        )
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    check_video_file(target, media.probe(path).fps)  # raises if there is no such file
    if not path.with_suffix(".actions.npy").is_file():
        raise ValueError(
            f"the actions of {path} are missing: expected {path.stem}.actions.npy in the same "
            f"folder, as vqvideo record-maze writes it"
        )
