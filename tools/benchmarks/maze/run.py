"""`tools/benchmark.py maze`: quality of rollouts of an action-conditional video model (section 4.4
of van den Oord et al. 2017).

The paper shows frames generated after six real ones with all actions "forward" or "turn right".
This benchmark measures how close such frames are to the recording, how much the actions lower the
NLL of the prior, whether generated frames follow the actions, and how far long rollouts drift.
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

from benchmarks.maze.evaluator import (
    HORIZONS,
    MIN_FRAMES,
    MazeEvaluator,
    load_episode,
)
from benchmarks.maze.inverse_dynamics import (
    InverseDynamicsModel,
    train_inverse_model,
)
from benchmarks.maze.metrics import summarize_episodes
from benchmarks.maze.plots import (
    DRIFT_FILE,
    PLOT_FILE,
    EpisodeStrips,
    plot_drift,
    plot_rollouts,
)
from vqvideo import media
from vqvideo.atomic import replace_files
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import check_output_files
from vqvideo.commands.process_pool import build_progress_callback
from vqvideo.data.items import evenly_spaced
from vqvideo.data.metadata import Item
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.metrics import build_ssim
from vqvideo.recipes.worlds.episodes import list_episodes
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.maze_model import NUM_PREFIX_FRAMES, load_maze_model
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.report.environment import collect_environment
from vqvideo.sampling import SamplingParams

METRICS_FILE = "maze.json"
OUTPUT_FILES = (METRICS_FILE, PLOT_FILE, DRIFT_FILE)
MAX_TRAIN_EPISODES = 300  # for the inverse model
NUM_SHOWN = {"data": 2, "other": 1}  # plotted episodes of each folder


@dataclass(frozen=True, kw_only=True)
class MazeBenchmarkConfig:
    """The settings of the maze benchmark.

    Attributes:
        model: name or run folder of a model with a prior conditioned on the actions of
            `vqvideo record-maze`.
        data: a folder of recordings. The test split is evaluated; the inverse model is trained on
            the train split.
        other_map: a folder of recordings of another map, all of which are evaluated; None skips
            this.
        max_episodes: maximum number of evaluated episodes per folder, evenly spaced; None is all.
        num_frames: length of the rollouts. If a recording is shorter, its actions are repeated.
        temperature: sampling temperature of the prior.
        guidance_scale: strength of the action conditioning, see `vqvideo.sampling.generate`; None
            is 1.
        seed: seed of all sampling.
        device: see `load_model`.
    """

    model: str
    data: str
    other_map: str | None = None
    max_episodes: int | None = None
    num_frames: int = 100
    temperature: float = 1.0
    guidance_scale: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.max_episodes is not None and self.max_episodes < 2:
            raise ValueError(
                f"max_episodes must be at least 2, since each episode is also evaluated with the "
                f"actions of another; got {self.max_episodes}"
            )
        if self.num_frames < HORIZONS[-1]:
            raise ValueError(
                f"num_frames must be at least {HORIZONS[-1]}, the largest evaluated horizon; "
                f"got {self.num_frames}"
            )
        SamplingParams(temperature=self.temperature)  # validates the temperature
        if self.guidance_scale is not None and not math.isfinite(self.guidance_scale):
            raise ValueError(f"guidance_scale must be a finite number, got {self.guidance_scale}")


def benchmark_maze(
    config: MazeBenchmarkConfig,
    *,
    out: str = "outputs/maze",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Evaluate a model on recordings; every metric has a 95 % interval over episodes.

    Args:
        config: the settings of the benchmark.
        out: a folder for `maze.json`, `maze.png` and `drift.png`.
        overwrite: replace the files of an earlier run.
        progress: called with (training episodes loaded, total), then with (steps of the inverse
            model, total), then with (episodes evaluated, total).

    Returns:
        The files written, and the metrics; see `summarize_episodes` for those of each folder.

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, FileNotFoundError, ValueError: before any work is done.
        media.MediaError: a recording cannot be read.
    """
    start_time, folder = time.monotonic(), Path(out)
    for name in OUTPUT_FILES:
        check_output_files(folder / name, 1, overwrite)
    import_figure_class()  # raises before the work if a package is missing
    build_ssim()
    generator = load_maze_model(config.model, config.device)
    episodes = _select_episodes(config, generator)
    train_items = evenly_spaced(_list_episodes(config.data, "train", 2), MAX_TRAIN_EPISODES)
    inverse_model = _train_inverse_model(train_items, config.seed, generator, progress)
    metrics, strips = _evaluate_splits(config, generator, inverse_model, episodes, progress)
    _, *grid = generator.vqvae.compute_grid_shape(generator.sample_shape or ())
    quantizer = generator.vqvae.quantizer
    results = {
        **{name: getattr(config, name) for name in ("model", "data", "other_map", "num_frames")},
        **{name: getattr(config, name) for name in ("temperature", "guidance_scale", "seed")},
        "codes_per_frame": torch.Size(grid).numel() * quantizer.num_codebooks,
        "codebook_size": quantizer.codebook_size,
        "inverse_learnt_from": len(train_items),
        "measured": metrics,
        "seconds": round(time.monotonic() - start_time, 2),
        "command": get_command_line(),
        "environment": collect_environment("torchmetrics"),
    }
    with replace_files(folder, OUTPUT_FILES, overwrite=overwrite) as temporary:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
        plot_rollouts(temporary / PLOT_FILE, strips)
        plot_drift(temporary / DRIFT_FILE, metrics)
    return [folder / name for name in OUTPUT_FILES], results


def _select_episodes(config: MazeBenchmarkConfig, generator: Generator) -> dict[str, list[Item]]:
    """Select the episodes to evaluate from each folder; raise `ValueError` if there are too few."""
    window = (generator.sample_shape or (0,))[0]  # for the NLL
    min_frames, selected = max(MIN_FRAMES, window), dict[str, list[Item]]()
    for name, folder, split in (
        ("data", config.data, "test"),
        ("other", config.other_map, None),
    ):
        if folder is None:
            continue
        items = evenly_spaced(_list_episodes(folder, split, min_frames), config.max_episodes)
        if len(items) < 2:
            raise ValueError(
                f"{folder} has one episode to evaluate; at least two are needed, since each is "
                f"also evaluated with the actions of another"
            )
        selected[name] = items
    return selected


def _list_episodes(folder: str, split: str | None, min_frames: int) -> list[Item]:
    return list_episodes(folder, split, min_frames=min_frames, num_actions=len(ACTIONS))


def _train_inverse_model(
    items: Sequence[Item],
    seed: int,
    generator: Generator,
    progress: Callable[[int, int], None] | None,
) -> InverseDynamicsModel:
    episodes = []
    for done, item in enumerate(items, start=1):
        episodes.append(load_episode(item, generator))
        if progress:
            progress(done, len(items))
    device = get_device(generator)
    return train_inverse_model(episodes, len(ACTIONS), seed=seed, device=device, progress=progress)


def _evaluate_splits(
    config: MazeBenchmarkConfig,
    generator: Generator,
    inverse_model: InverseDynamicsModel,
    episodes: dict[str, list[Item]],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Any], list[EpisodeStrips]]:
    """Return the metrics of each folder, None if it is not given, and the strips to plot."""
    metrics, strips = dict[str, Any](data=None, other=None), list[EpisodeStrips]()
    advance = build_progress_callback(progress, 0, sum(map(len, episodes.values())))
    for name, items in episodes.items():
        evaluator = MazeEvaluator(
            generator=generator,
            inverse_model=inverse_model,
            num_frames=config.num_frames,
            temperature=config.temperature,
            guidance_scale=config.guidance_scale,
            seed=config.seed,
            on_batch_end=advance,
        )
        length = min(media.probe(item.path).num_frames for item in items)
        evaluator.evaluate(items, length)
        metrics[name] = {
            **summarize_episodes(evaluator.episode_metrics, evaluator.code_counts),
            "num_frames": length,
        }
        strips += [_build_strips(evaluator, item) for item in evenly_spaced(items, NUM_SHOWN[name])]
    return metrics, strips


def _build_strips(evaluator: MazeEvaluator, item: Item) -> EpisodeStrips:
    """Build the strips of an episode: the recording, its reconstruction and three rollouts."""
    num_frames = HORIZONS[-1]
    episode = load_episode(item, evaluator.generator, MIN_FRAMES)
    vqvae = evaluator.generator.vqvae
    frames = episode.frames[None].to(get_device(vqvae))

    def imagine(actions: Tensor) -> Tensor:
        batch = actions[None].to(frames.device)
        rollout = evaluator.imagine(frames, batch, num_frames, [evaluator.seed])
        return torch.cat([frames[:, :, :NUM_PREFIX_FRAMES], rollout], dim=2)[0]

    def imagine_repeated_action(action: str) -> Tensor:
        repeated = torch.full((num_frames,), ACTIONS.index(action))
        return imagine(torch.cat([episode.actions[:NUM_PREFIX_FRAMES], repeated]))

    clips = {
        "recorded": frames[0],
        "reconstructed": vqvae.decode(vqvae.encode(frames))[0],
        "rollout, recorded actions": imagine(episode.actions),
        'rollout, all "forward"': imagine_repeated_action("forward"),
        'rollout, all "turn right"': imagine_repeated_action("turn right"),
    }
    return EpisodeStrips(item.path.name, clips)
