"""Two experiments on the codebook, each with a few short training runs on images.

`benchmark_beta`: the paper finds results robust for beta from 0.1 to 2.0 (section 3.2).
`benchmark_codebooks`: a codebook trained by gradient (eq. 3) against one trained by moving average
(appendix A.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.runs import TrainingLog, is_complete, read_log, record_settings
from vqvideo.atomic import replace_file
from vqvideo.commands.train_vqvae import train_vqvae
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.training import TrainingConfig

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0)
REPORTED_METRICS = ("val_psnr_db", "val_perplexity")


def benchmark_beta(
    *, data: str, out: str, model: str = "image", steps: int = 1000, seeds: int = 3
) -> list[dict[str, Any]]:
    """Train a VQ-VAE for every beta and seed; return one row per beta with means over the seeds.

    Args:
        data: a folder of files of the model's rank.
        out: a folder for the runs; complete runs are not repeated.
        model: a registered name.
        steps: training steps of each run.
        seeds: runs per beta, with seeds 0, 1, ...
    """
    changes = {f"beta-{beta}": {"commitment_weight": beta} for beta in BETAS}
    runs = _sweep(changes, data=data, out=out, model=model, steps=steps, seeds=seeds)
    table = []
    for beta, name in zip(BETAS, changes, strict=True):
        row: dict[str, Any] = {"beta": beta}
        for metric in REPORTED_METRICS:
            values = [rows[-1][metric] for rows in runs[name]]
            row[metric] = round(mean(values), 2)
            row[f"{metric}_range"] = [round(min(values), 2), round(max(values), 2)]
        table.append(row)
    return table


def benchmark_codebooks(
    *, data: str, out: str, model: str = "image", steps: int = 1000, seeds: int = 3
) -> Path:
    """Train with a codebook by moving average and one by gradient on the same seeds, and plot the
    curves to `curves.png` in `out`.

    Args: as in `benchmark_beta`.
    """
    changes = {name: {"quantizer": {"name": name}} for name in ("ema", "vector")}
    runs = _sweep(changes, data=data, out=out, model=model, steps=steps, seeds=seeds)
    path = Path(out) / "curves.png"
    _plot_curves(runs, path)
    return path


def _sweep(
    overrides: Mapping[str, Mapping[str, Any]],
    *,
    data: str,
    out: str,
    model: str,
    steps: int,
    seeds: int,
) -> dict[str, list[TrainingLog]]:
    """Train and return the logs of all runs: for each named config override, one per seed."""
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    record_settings(Path(out), {"data": str(Path(data).resolve()), "model": model, "steps": steps})
    logs: dict[str, list[TrainingLog]] = {name: [] for name in overrides}
    for seed in range(seeds):
        for name, change in overrides.items():
            config = TrainingConfig(
                steps=steps, batch_size=16, eval_every=max(1, steps // 10), seed=seed
            )
            run = Path(out) / f"{name}-seed-{seed}"
            if not is_complete(run):
                train_vqvae(
                    model=model,
                    data=data,
                    out=str(run),
                    config=config,
                    overrides=change,
                    overwrite=True,
                )
            logs[name].append(read_log(run))
    return logs


def _plot_curves(runs: Mapping[str, Sequence[TrainingLog]], path: Path) -> None:
    figure = import_figure_class()(figsize=(9, 3.5), layout="constrained")
    for column, name in enumerate(REPORTED_METRICS):
        axes = figure.add_subplot(1, len(REPORTED_METRICS), column + 1)
        for index, (label, logs) in enumerate(runs.items()):
            for seed, rows in enumerate(logs):
                axes.plot(
                    [row["step"] for row in rows],
                    [row[name] for row in rows],
                    color=f"C{index}",
                    linewidth=1,
                    label=label if seed == 0 else None,
                )
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=100)
