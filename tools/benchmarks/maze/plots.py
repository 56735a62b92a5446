"""Plots of rollouts as strips of frames, and of the drift of imagined frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.media import to_uint8
from vqvideo.recipes.worlds.maze_model import NUM_PREFIX_FRAMES
from vqvideo.report.codebook_plot import import_figure_class

PLOT_FILE, DRIFT_FILE = "maze.png", "drift.png"
GAP_PIXELS = 2  # between two frames
MARKER_COLOR = (0.9, -0.6, -0.8)  # red, for the line where the rollout begins
COLORS = {"real": "#444444", "reconstructed": "#1f6fb2", "imagined": "#d1351b"}
SPLIT_TITLES = {"data": "test split", "other": "another map"}


class EpisodeStrips(NamedTuple):
    """The strips of one episode.

    Attributes:
        title: name of the episode.
        clips: frames `[3, t, h, w]` of equal length, by title of the strip.
    """

    title: str
    clips: dict[str, Tensor]


def make_strip(clip: Tensor) -> Tensor:
    """Return frames `[3, t, h, w]` side by side on white, `[3, h, t w + gaps]`, with a red line
    after the prefix given to the model.
    """
    channels, _, height, _ = clip.shape
    white = torch.ones(channels, height, GAP_PIXELS)
    marker = torch.tensor(MARKER_COLOR)[:, None, None].expand(channels, height, 2 * GAP_PIXELS)
    parts: list[Tensor] = []
    for t, frame in enumerate(clip.cpu().unbind(1)):
        if t:
            parts.append(marker if t == NUM_PREFIX_FRAMES else white)
        parts.append(frame)
    return torch.cat(parts, dim=2)


def plot_rollouts(path: Path, episodes: Sequence[EpisodeStrips]) -> None:
    """Plot a block of titled strips for each episode."""
    rows = sum(len(strips.clips) for strips in episodes)
    figure = import_figure_class()(figsize=(16, 1.22 * rows), layout="constrained")
    axes = iter(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for strips in episodes:
        for index, (name, clip) in enumerate(strips.clips.items()):
            axis = next(axes)
            axis.imshow(
                to_uint8(make_strip(clip)).permute(1, 2, 0).numpy(), interpolation="nearest"
            )
            axis.set_axis_off()
            title = f"{strips.title}: {name}" if index == 0 else name
            axis.set_title(title, loc="left", fontsize=10, pad=3, parse_math=False)
    figure.savefig(path, dpi=110, format="png")


def plot_drift(path: Path, results: Mapping[str, Any]) -> None:
    """Plot the distance of frames from real ones over time with 95 % intervals, for each folder."""
    drifts = {name: metrics["drift"] for name, metrics in results.items() if metrics is not None}
    figure = import_figure_class()(figsize=(6.5 * len(drifts), 4.2), layout="constrained")
    for axes, (name, drift) in zip(
        figure.subplots(1, len(drifts), squeeze=False, sharey=True)[0], drifts.items(), strict=True
    ):
        for source, color in COLORS.items():
            parts = [part for part in drift if part[source] is not None]
            middle = [(part["first"] + part["last"]) / 2 for part in parts]
            means = [part[source]["mean"] for part in parts]
            axes.plot(middle, means, color=color, marker="o", markersize=4, label=source)
            if intervals := [part[source]["ci95"] for part in parts if part[source]["ci95"]]:
                low, high = zip(*intervals, strict=True)
                axes.fill_between(middle, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"frames after the {NUM_PREFIX_FRAMES} real frames")
        axes.set_ylabel("Fréchet distance from real frames")
        axes.set_title(SPLIT_TITLES[name])
        axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=110, format="png")
