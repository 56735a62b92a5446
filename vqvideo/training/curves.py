"""Plot of the metrics in a training log."""

from __future__ import annotations

import json
from pathlib import Path

from vqvideo.atomic import replace_file

TIME_KEYS = ("step", "seconds", "step_seconds")
BASELINES = {"val_nats_per_code": ("val_unigram_nats", "val_uniform_nats")}


def write_curves(log_path: str | Path, plot_path: str | Path) -> None:
    """Plot every metric of `log.jsonl` over the steps, one panel per metric, into one PNG.

    Baselines of a metric are dashed lines in its panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, and only needed here
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in Path(log_path).read_text().splitlines()]
    baselines = {name for names in BASELINES.values() for name in names}
    names = [name for name in rows[0] if name not in {*TIME_KEYS, *baselines}]
    figure = Figure(figsize=(4 * len(names), 3))
    FigureCanvasAgg(figure)
    # Fixed margins: an automatic layout renders everything several times at each evaluation.
    inch = 1 / (4 * len(names))
    figure.subplots_adjust(0.6 * inch, 0.17, 1 - 0.15 * inch, 0.88, wspace=0.25)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".")
        for baseline in BASELINES.get(name, ()):
            axes.plot([row["step"] for row in rows], [row[baseline] for row in rows], "--")
            axes.annotate(
                baseline.split("_")[1], (rows[-1]["step"], rows[-1][baseline]), ha="right"
            )
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with replace_file(plot_path) as temporary:
        figure.savefig(temporary, dpi=100)
