"""The lines of a training log as a picture of curves."""

from __future__ import annotations

import json
from pathlib import Path

TIME = ("step", "seconds", "step_seconds")
MEASURED_BY = {"held_out_nats_per_code": ("held_out_unigram_nats", "held_out_uniform_nats")}


def write_curves(log: str | Path, picture: str | Path) -> None:
    """Draw every figure of a `log.jsonl` over the steps: one panel a figure, one PNG. Figures that
    another is measured by stand in its panel as dashed lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, and only needed here
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in Path(log).read_text().splitlines()]
    beside = {name for names in MEASURED_BY.values() for name in names}
    names = [name for name in rows[0] if name not in {*TIME, *beside}]
    figure = Figure(figsize=(4 * len(names), 3))
    FigureCanvasAgg(figure)
    # A layout that works out its margins draws everything several times, at each measurement.
    inch = 1 / (4 * len(names))
    figure.subplots_adjust(0.6 * inch, 0.17, 1 - 0.15 * inch, 0.88, wspace=0.25)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".")
        for level in MEASURED_BY.get(name, ()):
            axes.plot([row["step"] for row in rows], [row[level] for row in rows], "--")
            axes.annotate(level.split("_")[2], (rows[-1]["step"], rows[-1][level]), ha="right")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
