"""The command that scores held-out data and draws what there is to see."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import add_device, add_max_corrupt, add_overwrite, progress_bar


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo evaluate`."""
    parser.add_argument("--model", required=True, help="a shipped model or the folder of a run")
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--out", default="outputs/evaluation", metavar="FOLDER")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--max-items", type=int, metavar="N", help="evenly spread; default all")
    parser.add_argument(
        "--temperatures",
        type=float,
        nargs="*",
        default=[0.6, 0.8, 1.0],
        metavar="T",
        help="of the samples; none draws none",
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    add_max_corrupt(parser)
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.evaluate import evaluate

    files, figures = evaluate(
        model=options.model,
        data=options.data,
        out=options.out,
        split=options.split,
        max_items=options.max_items,
        temperatures=options.temperatures,
        batch_size=options.batch_size,
        seed=options.seed,
        max_corrupt=options.max_corrupt,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("item"),
    )
    return {"files": files, **figures} if options.json else files
