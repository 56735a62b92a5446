"""`vqvideo benchmark maze`: how well a model of walks imagines what it is told (section 4.4 of van
den Oord et al. 2017).

The paper shows frames that follow six real ones, all "forward" or all "turn right". Here it is
counted how near such frames come to what was recorded, what the actions are worth to the prior,
whether a turn that is imagined turns, and whether a long walk stays like a recording.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.data.episodes import episode_items
from vqvideo.data.items import spread
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.data.metadata import Item
from vqvideo.generator import Generator
from vqvideo.jobs.benchmark.maze.figures import summary
from vqvideo.jobs.benchmark.maze.inverse import InverseModel, learn_inverse
from vqvideo.jobs.benchmark.maze.measuring import AHEAD, LEAST_FRAMES, MazePass, read_walk
from vqvideo.jobs.benchmark.maze.picture import DRIFT, PICTURE, Strips, draw_drift, draw_walks
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.folder import folder_of_whole_files
from vqvideo.jobs.maze import PREFIX, open_maze_model
from vqvideo.jobs.model import output_files
from vqvideo.metrics import ssim_measure
from vqvideo.report.machine import setting
from vqvideo.report.picture import matplotlib_figure
from vqvideo.sampling import Sampling

FIGURES = "maze.json"
FILES = (FIGURES, PICTURE, DRIFT)
MOST_LEARNT = 300  # episodes from which the inverse model learns
SHOWN = {"data": 2, "other": 1}  # episodes of each folder in the picture


@dataclass(frozen=True, kw_only=True)
class MazeBench:
    """What is measured, of which model.

    Attributes:
        model: told the actions of `vqvideo record-maze`, with a prior; by its name or the folder of
            a trained one.
        data: a folder of recordings. The test split is measured; the inverse model learns from the
            other.
        other: recordings of another map, all of which are measured; None measures none.
        max_episodes: measured of each folder, evenly spread; None is all.
        num_frames: imagined of each episode. Where a recording ends before, its actions are gone
            through once more.
        temperature: of the prior.
        guidance: how strongly what is done decides, see `vqvideo.sampling.generate`; None is 1.
        seed: of all that is drawn.
        device: see `open_model`.
    """

    model: str
    data: str
    other: str | None = None
    max_episodes: int | None = None
    num_frames: int = 100
    temperature: float = 1.0
    guidance: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.max_episodes is not None and self.max_episodes < 2:
            raise ValueError(
                f"max_episodes must be at least 2, since each is told what was done in another; "
                f"got {self.max_episodes}"
            )
        if self.num_frames < AHEAD[-1]:
            raise ValueError(
                f"num_frames must be at least {AHEAD[-1]}, the farthest prediction that is "
                f"measured; got {self.num_frames}"
            )
        Sampling(temperature=self.temperature)  # raises
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, got {self.guidance}")


def benchmark_maze(
    bench: MazeBench,
    *,
    out: str = "outputs/maze",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Each figure with its 95 % interval over episodes.

    Args:
        bench: what is measured.
        out: a folder for `maze.json`, `maze.png` and `drift.png`.
        overwrite: replace the files of an earlier run.
        progress: called with (episodes learnt from, all), with (steps of the inverse model, all),
            then with (episodes measured, all).

    Returns:
        The files written, and the figures: of each folder see `summary`.

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, FileNotFoundError, ValueError: before any work is done.
        media.MediaError: a recording cannot be read.
    """
    started, folder = time.monotonic(), Path(out)
    for name in FILES:
        output_files(folder / name, 1, overwrite)
    matplotlib_figure()  # what is missing is better known before the work than after
    ssim_measure()
    generator = open_maze_model(bench.model, bench.device)
    walks = _walks(bench, generator)
    learnt = spread(_items(bench.data, "train", 2), MOST_LEARNT)
    inverse = _inverse(learnt, bench.seed, generator, progress)
    measured, shown = _measure(bench, generator, inverse, walks, progress)
    _, *grid = generator.vqvae.grid_shape(generator.sample_shape or ())
    quantizer = generator.vqvae.quantizer
    figures = {
        **{name: getattr(bench, name) for name in ("model", "data", "other", "num_frames")},
        **{name: getattr(bench, name) for name in ("temperature", "guidance", "seed")},
        "codes_per_frame": torch.Size(grid).numel() * quantizer.num_codebooks,
        "codebook_size": quantizer.codebook_size,
        "inverse_learnt_from": len(learnt),
        "measured": measured,
        "seconds": round(time.monotonic() - started, 2),
        "command": command_line(),
        "setting": setting("torchmetrics"),
    }
    with folder_of_whole_files(folder, FILES) as unfinished:
        text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
        (unfinished / FIGURES).write_text(text + "\n", encoding="utf-8")
        draw_walks(unfinished / PICTURE, shown)
        draw_drift(unfinished / DRIFT, measured)
    return [folder / name for name in FILES], figures


def _walks(bench: MazeBench, generator: Generator) -> dict[str, list[Item]]:
    """What is measured of each folder; raises `ValueError` where something does not fit."""
    window = (generator.sample_shape or (0,))[0]  # of which the nats are measured
    least, found = max(LEAST_FRAMES, window), dict[str, list[Item]]()
    for name, folder, split in (("data", bench.data, "test"), ("other", bench.other, None)):
        if folder is None:
            continue
        items = spread(_items(folder, split, least), bench.max_episodes)
        if len(items) < 2:
            raise ValueError(
                f"{folder} has one episode to be measured; two are needed at least, since each is "
                f"told what was done in another"
            )
        found[name] = items
    return found


def _items(folder: str, split: str | None, least: int) -> list[Item]:
    return episode_items(folder, split, least=least, num_actions=len(ACTIONS))


def _inverse(
    items: Sequence[Item],
    seed: int,
    generator: Generator,
    progress: Callable[[int, int], None] | None,
) -> InverseModel:
    episodes = []
    for done, item in enumerate(items, start=1):
        episodes.append(read_walk(item, generator))
        if progress:
            progress(done, len(items))
    device = next(generator.parameters()).device
    return learn_inverse(episodes, len(ACTIONS), seed=seed, device=device, progress=progress)


def _measure(
    bench: MazeBench,
    generator: Generator,
    inverse: InverseModel,
    walks: dict[str, list[Item]],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Any], list[Strips]]:
    """The figures of each folder, None of one that is not there, and episodes to be shown."""
    measured, shown = dict[str, Any](data=None, other=None), list[Strips]()
    in_all, done = sum(map(len, walks.values())), 0

    def tell(number: int) -> None:
        nonlocal done
        done += number
        if progress:
            progress(done, in_all)

    for name, items in walks.items():
        measuring = MazePass(
            generator=generator,
            inverse=inverse,
            num_frames=bench.num_frames,
            temperature=bench.temperature,
            guidance=bench.guidance,
            seed=bench.seed,
            tell=tell,
        )
        length = min(media.probe(item.path).num_frames for item in items)
        measuring.measure(items, length)
        measured[name] = {**summary(measuring.rows, measuring.counts), "num_frames": length}
        shown += [_strips(measuring, item) for item in spread(items, SHOWN[name])]
    return measured, shown


def _strips(measuring: MazePass, item: Item) -> Strips:
    """An episode and what is imagined after its first frames."""
    number = AHEAD[-1]
    episode = read_walk(item, measuring.generator, LEAST_FRAMES)
    vqvae = measuring.generator.vqvae
    frames = episode.frames[None].to(next(vqvae.parameters()).device)

    def imagined(actions: Tensor) -> Tensor:
        told = actions[None].to(frames.device)
        after = measuring.imagined(frames, told, number, [measuring.seed])
        return torch.cat([frames[:, :, :PREFIX], after], dim=2)[0]

    def only(action: str) -> Tensor:
        chosen = torch.full((number,), ACTIONS.index(action))
        return imagined(torch.cat([episode.actions[:PREFIX], chosen]))

    clips = {
        "recorded": frames[0],
        "reconstructed": vqvae.decode(vqvae.encode(frames))[0],
        "imagined, told what was done": imagined(episode.actions),
        'imagined, all "forward"': only("forward"),
        'imagined, all "turn right"': only("turn right"),
    }
    return Strips(item.path.name, clips)
