"""The commands that examine a model on data: `evaluate` and `doctor`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, get_arguments, option, parse_seed


def _run_evaluate(options: argparse.Namespace) -> Any:
    from vqvideo.commands.evaluate import evaluate

    files, metrics = evaluate(**get_arguments(options), progress=create_progress_bar("item"))
    return {"files": files, **metrics} if options.json else files


EVALUATE = Command(
    "Score held-out data: bound, reconstruction, compression.",
    _run_evaluate,
    [
        shared.model_option(),
        shared.DATA,
        shared.out_option("outputs/evaluation"),
        shared.SPLIT,
        option("--max-items N", "score at most N windows, evenly spread (default: all)", int),
        option(
            "--temperatures T",
            "temperatures of the samples (default: 0.6 0.8 1); give no value for no samples",
            float,
            default=[0.6, 0.8, 1.0],
            nargs="*",
        ),
        option("--batch-size N", "windows per batch (default: 8)", default=8),
        option("--seed", "random seed of the samples", parse_seed, default=0),
        shared.MAX_CORRUPT,
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)


def _run_doctor(options: argparse.Namespace) -> Any:
    from vqvideo.commands.doctor import diagnose_codebook

    file, report, sampling_method = diagnose_codebook(
        **get_arguments(options), progress=create_progress_bar("clip")
    )
    if options.json:
        return {"file": file, "sampling": sampling_method, **report.to_dict()}
    codebooks = [dataclasses.asdict(metrics) for metrics in report.codebooks]
    rows = [
        f"{name}: {'  '.join(_format_metric(codebook[name]) for codebook in codebooks)}"
        for name in codebooks[0]
    ]
    return [*rows, f"advice: {report.advice}", f"sampling: {sampling_method}", file]


def _format_metric(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


DOCTOR = Command(
    "Check the codebook of a model.",
    _run_doctor,
    [
        shared.model_option(),
        shared.DATA,
        shared.SPLIT,
        shared.CLIP_STRIDE,
        shared.out_option("outputs/codebook.png", "plot of the codebook"),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
