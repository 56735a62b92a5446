"""Walks as strips of frames, real and imagined, and how far imagined frames drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.jobs.maze import PREFIX
from vqvideo.media import to_uint8
from vqvideo.report.picture import matplotlib_figure

PICTURE, DRIFT = "maze.png", "drift.png"
GAP = 2  # pixels between two frames
MARK = (0.9, -0.6, -0.8)  # a red line where imagination begins
COLOURS = {"real": "#444444", "reconstructed": "#1f6fb2", "imagined": "#d1351b"}
NAMES = {"data": "held out", "other": "another map"}


class Strips(NamedTuple):
    """What is shown of one episode.

    Attributes:
        title: which it is.
        clips: frames `[3, t, h, w]` of the same length, by what they are.
    """

    title: str
    clips: dict[str, Tensor]


def strip(clip: Tensor) -> Tensor:
    """Frames `[3, t, h, w]` side by side on white, a red line before the first that is no longer
    given to the model: `[3, h, t w + gaps]`.
    """
    channels, _, height, _ = clip.shape
    white = torch.ones(channels, height, GAP)
    mark = torch.tensor(MARK)[:, None, None].expand(channels, height, 2 * GAP)
    pieces: list[Tensor] = []
    for t, frame in enumerate(clip.cpu().unbind(1)):
        if t:
            pieces.append(mark if t == PREFIX else white)
        pieces.append(frame)
    return torch.cat(pieces, dim=2)


def draw_walks(path: Path, shown: Sequence[Strips]) -> None:
    """A block of strips for each episode, each strip under its name."""
    rows = sum(len(each.clips) for each in shown)
    figure = matplotlib_figure()(figsize=(16, 1.22 * rows), layout="constrained")
    axes = iter(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for each in shown:
        for number, (name, clip) in enumerate(each.clips.items()):
            axis = next(axes)
            axis.imshow(to_uint8(strip(clip)).permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_axis_off()
            title = f"{each.title}: {name}" if number == 0 else name
            axis.set_title(title, loc="left", fontsize=10, pad=3, parse_math=False)
    figure.savefig(path, dpi=110, format="png")


def draw_drift(path: Path, measured: Mapping[str, Any]) -> None:
    """The distance of frames from real ones over time, with its 95 % interval, a picture for each
    folder.
    """
    drifts = {name: found["drift"] for name, found in measured.items() if found is not None}
    figure = matplotlib_figure()(figsize=(6.5 * len(drifts), 4.2), layout="constrained")
    for axes, (name, drift) in zip(
        figure.subplots(1, len(drifts), squeeze=False, sharey=True)[0], drifts.items(), strict=True
    ):
        for source, colour in COLOURS.items():
            parts = [part for part in drift if part[source] is not None]
            middle = [(part["first"] + part["last"]) / 2 for part in parts]
            means = [part[source]["mean"] for part in parts]
            axes.plot(middle, means, color=colour, marker="o", markersize=4, label=source)
            if intervals := [part[source]["ci95"] for part in parts if part[source]["ci95"]]:
                low, high = zip(*intervals, strict=True)
                axes.fill_between(middle, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"frames after the {PREFIX} real ones")
        axes.set_ylabel("Fréchet distance from real frames")
        axes.set_title(NAMES[name])
        axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=110, format="png")
