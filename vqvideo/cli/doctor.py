"""The command that tells whether a codebook is healthy."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from vqvideo.cli.options import add_device, add_overwrite, progress_bar


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo doctor`."""
    parser.add_argument("--model", required=True, help="a shipped model or the folder of a run")
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument(
        "--clip-step", type=int, metavar="FRAMES", help="between the starts of two clips"
    )
    parser.add_argument("--out", default="outputs/codebook.png", help="the picture")
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.doctor import doctor

    file, report, step = doctor(
        model=options.model,
        data=options.data,
        split=options.split,
        step=options.clip_step,
        out=options.out,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("clip"),
    )
    if options.json:
        return {"file": file, "sampling": step, **report.to_dict()}
    codebooks = [dataclasses.asdict(figures) for figures in report.codebooks]
    names = list(codebooks[0])
    rows = [f"{name}: {'  '.join(_short(each[name]) for each in codebooks)}" for name in names]
    return [*rows, f"advice: {report.advice}", f"sampling: {step}", file]


def _short(figure: float) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)
