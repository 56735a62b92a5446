"""The lines of a training log as a picture of curves."""

from __future__ import annotations

import json
from pathlib import Path


def write_curves(log: str | Path, picture: str | Path) -> None:
    """Draw every figure of a `log.jsonl` over the steps: one panel a figure, one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, and only needed here
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in Path(log).read_text().splitlines()]
    names = [name for name in rows[0] if name not in ("step", "seconds")]
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
