"""Text tables and a plot of `tools/benchmark.py training`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import align_columns, format_number
from vqvideo.atomic import replace_file
from vqvideo.report.environment import format_environment

PSNR_KEY, USAGE_KEY = "val_psnr_db", "val_usage"


def format_training_table(results: Mapping[str, Any]) -> str:
    """Format the results of `benchmark_training`: a line about the machine and three tables."""
    unit = results["unit_ms"]
    steps = [["one step", "ms", "units", "warm-up steps, s"]]
    for row in results["steps"]:
        name = row["precision"] + (", compiled" if row["compile"] else "")
        steps.append(
            [
                name,
                format_number(row["ms"]),
                format_number(row["ms"] / unit),
                format_number(row["first_s"]),
            ]
        )
    runs = [["budget, s", "seed", "steps", "time, s", "units", "PSNR, dB", "codebook usage"]]
    for run in results["runs"]:
        last = run["log"][-1]
        runs.append(
            [
                f"{run['budget']:g}",
                str(run["seed"]),
                str(last["step"]),
                f"{last['step_seconds']:.1f}",
                f"{1000 * last['step_seconds'] / unit:.0f}",
                f"{last[PSNR_KEY]:.2f}",
                f"{last[USAGE_KEY]:.1%}",
            ]
        )
    medians = [["budget, s", "median PSNR, dB", "min", "max", "min codebook usage"]]
    for budget, logs in _group_by_budget(results):
        psnr, usage = ([log[-1][name] for log in logs] for name in (PSNR_KEY, USAGE_KEY))
        values = [statistics.median(psnr), min(psnr), max(psnr)]
        medians.append([f"{budget:g}", *(f"{x:.2f}" for x in values), f"{min(usage):.1%}"])
    memory = results["peak_mib"]
    head = f"one unit took {format_number(unit)} ms; peak memory {format_number(memory)} MiB"
    return "\n\n".join(
        [
            format_environment(results["environment"]),
            head,
            align_columns(steps),
            align_columns(runs),
            align_columns(medians),
        ]
    )


def plot_training(results: Mapping[str, Any], path: Path) -> Path:
    """Plot validation PSNR over training time, one line per run and one color per budget."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    unit = results["unit_ms"] / 1000
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for color, (budget, logs) in enumerate(_group_by_budget(results)):
        for seed, log in enumerate(logs):
            axes.plot(
                [row["step_seconds"] for row in log],
                [row[PSNR_KEY] for row in log],
                color=f"C{color}",
                marker=".",
                linewidth=1,
                label=None if seed else f"budget {budget:g} s",
            )
    axes.set_xscale("log")
    axes.set_xlabel("training time, s")
    above = axes.secondary_xaxis("top", functions=(lambda s: s / unit, lambda u: u * unit))
    above.set_xlabel("units")
    axes.set_ylabel("validation PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _group_by_budget(
    results: Mapping[str, Any],
) -> Iterator[tuple[float, list[list[dict[str, float]]]]]:
    for budget in dict.fromkeys(run["budget"] for run in results["runs"]):
        yield budget, [run["log"] for run in results["runs"] if run["budget"] == budget]
