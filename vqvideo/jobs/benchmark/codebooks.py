"""Two experiments on the codebook, each a handful of short training runs on images.

`beta_table`: the paper finds results robust for beta from 0.1 to 2.0 (section 3.2).
`codebook_curves`: a codebook by gradient (eq. 3) against one by moving average (appendix A.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from vqvideo.jobs.benchmark.runs import Rows, claim, is_complete, log_of
from vqvideo.jobs.train_vqvae import train_vqvae
from vqvideo.training import TrainingConfig

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0)
SHOWN = ("held_out_psnr_db", "held_out_perplexity")


def beta_table(
    *, data: str, out: str, model: str = "image", steps: int = 1000, seeds: int = 3
) -> list[dict[str, Any]]:
    """Train a VQ-VAE for every beta and seed; one row per beta with means over the seeds.

    Args:
        data: a folder of files of the model's rank.
        out: a folder for the runs; those that are complete are not run again.
        model: a registered name.
        steps: of each run.
        seeds: runs per beta, with the seeds 0, 1, ...
    """
    changes = {f"beta-{beta}": {"commitment_weight": beta} for beta in BETAS}
    runs = _sweep(changes, data=data, out=out, model=model, steps=steps, seeds=seeds)
    table = []
    for beta, name in zip(BETAS, changes, strict=True):
        row: dict[str, Any] = {"beta": beta}
        for figure in SHOWN:
            values = [rows[-1][figure] for rows in runs[name]]
            row[figure] = round(mean(values), 2)
            row[f"{figure}_range"] = [round(min(values), 2), round(max(values), 2)]
        table.append(row)
    return table


def codebook_curves(
    *, data: str, out: str, model: str = "image", steps: int = 1000, seeds: int = 3
) -> Path:
    """Train with a codebook by moving average and with one by gradient, on the same seeds, and
    draw both curves into one picture, `curves.png` in `out`.

    Args: as in `beta_table`.
    """
    changes = {name: {"quantizer": {"name": name}} for name in ("ema", "vector")}
    runs = _sweep(changes, data=data, out=out, model=model, steps=steps, seeds=seeds)
    picture = Path(out) / "curves.png"
    _draw(runs, picture)
    return picture


def _sweep(
    changes: Mapping[str, Mapping[str, Any]],
    *,
    data: str,
    out: str,
    model: str,
    steps: int,
    seeds: int,
) -> dict[str, list[Rows]]:
    """The log of every run: for each named change of the model's config, one per seed."""
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    claim(Path(out), {"data": str(Path(data).resolve()), "model": model, "steps": steps})
    logs: dict[str, list[Rows]] = {name: [] for name in changes}
    for seed in range(seeds):
        for name, change in changes.items():
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
                    changes=change,
                    overwrite=True,
                )
            logs[name].append(log_of(run))
    return logs


def _draw(runs: Mapping[str, Sequence[Rows]], picture: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, and only needed here
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for column, name in enumerate(SHOWN):
        axes = figure.add_subplot(1, len(SHOWN), column + 1)
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
    figure.savefig(picture, dpi=100)
