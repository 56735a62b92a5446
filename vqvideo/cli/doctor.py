"""Options of the command that checks a codebook."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from vqvideo.cli.options import add_device_option, add_overwrite_option, create_progress_bar


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo doctor`."""
    parser.add_argument("--model", required=True, help="a shipped model or a run folder")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder of media files")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="test",
        help="split of the data (default: test)",
    )
    parser.add_argument(
        "--clip-stride",
        type=int,
        metavar="FRAMES",
        help="frames or audio samples between the starts of two clips; default: adjacent clips",
    )
    parser.add_argument(
        "--out",
        default="outputs/codebook.png",
        help="plot of the codebook (default: outputs/codebook.png)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> Any:
    from vqvideo.commands.doctor import diagnose_codebook

    file, report, sampling_method = diagnose_codebook(
        model=options.model,
        data=options.data,
        split=options.split,
        clip_stride=options.clip_stride,
        out=options.out,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("clip"),
    )
    if options.json:
        return {"file": file, "sampling": sampling_method, **report.to_dict()}
    codebooks = [dataclasses.asdict(metrics) for metrics in report.codebooks]
    names = list(codebooks[0])
    rows = [
        f"{name}: {'  '.join(_format_metric(codebook[name]) for codebook in codebooks)}"
        for name in names
    ]
    return [*rows, f"advice: {report.advice}", f"sampling: {sampling_method}", file]


def _format_metric(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
