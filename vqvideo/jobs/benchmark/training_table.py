"""The figures of `vqvideo benchmark training` as text and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqvideo.jobs.benchmark.table import aligned, short
from vqvideo.report.machine import as_line

PSNR, USAGE = "held_out_psnr_db", "held_out_usage"


def training_table(found: Mapping[str, Any]) -> str:
    """What `benchmark_training` returned: a line about the machine, and three tables."""
    unit = found["unit_ms"]
    steps = [["one step", "ms", "units", "the first steps, s"]]
    for row in found["steps"]:
        name = row["precision"] + (", compiled" if row["compile"] else "")
        steps.append([name, short(row["ms"]), short(row["ms"] / unit), short(row["first_s"])])
    runs = [["budget, s", "seed", "steps", "took, s", "units", "PSNR, dB", "codebook used"]]
    for run in found["runs"]:
        last = run["log"][-1]
        runs.append(
            [
                f"{run['budget']:g}",
                str(run["seed"]),
                str(last["step"]),
                f"{last['step_seconds']:.1f}",
                f"{1000 * last['step_seconds'] / unit:.0f}",
                f"{last[PSNR]:.2f}",
                f"{last[USAGE]:.1%}",
            ]
        )
    medians = [["budget, s", "median PSNR, dB", "least", "most", "least codebook used"]]
    for budget, logs in _by_budget(found):
        ends, used = ([log[-1][name] for log in logs] for name in (PSNR, USAGE))
        values = [statistics.median(ends), min(ends), max(ends)]
        medians.append([f"{budget:g}", *(f"{x:.2f}" for x in values), f"{min(used):.1%}"])
    memory = found["peak_mib"]
    head = f"a unit took {short(unit)} ms; the process held {short(memory)} MiB at most"
    return "\n\n".join(
        [as_line(found["setting"]), head, aligned(steps), aligned(runs), aligned(medians)]
    )


def draw_training(found: Mapping[str, Any], picture: Path) -> Path:
    """Held-out PSNR over seconds of steps, a line a run, those of one budget in one colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, and only needed here
    from matplotlib.figure import Figure

    unit = found["unit_ms"] / 1000
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for color, (budget, logs) in enumerate(_by_budget(found)):
        for seed, log in enumerate(logs):
            axes.plot(
                [row["step_seconds"] for row in log],
                [row[PSNR] for row in log],
                color=f"C{color}",
                marker=".",
                linewidth=1,
                label=None if seed else f"a schedule of {budget:g} s",
            )
    axes.set_xscale("log")
    axes.set_xlabel("seconds of steps")
    above = axes.secondary_xaxis("top", functions=(lambda s: s / unit, lambda u: u * unit))
    above.set_xlabel("units")
    axes.set_ylabel("PSNR of held-out clips, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110)
    return picture


def _by_budget(found: Mapping[str, Any]) -> Iterator[tuple[float, list[list[dict[str, float]]]]]:
    for budget in dict.fromkeys(run["budget"] for run in found["runs"]):
        yield budget, [run["log"] for run in found["runs"] if run["budget"] == budget]
