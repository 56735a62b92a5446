"""Options of the command that scores held-out data and writes a report."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import (
    add_device_option,
    add_max_corrupt_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo evaluate`."""
    parser.add_argument("--model", required=True, help="a shipped model or a run folder")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder of media files")
    parser.add_argument(
        "--out",
        default="outputs/evaluation",
        metavar="FOLDER",
        help="output folder (default: outputs/evaluation)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="test",
        help="split of the data (default: test)",
    )
    parser.add_argument(
        "--max-items",
        type=int,
        metavar="N",
        help="score at most N windows, evenly spread (default: all)",
    )
    parser.add_argument(
        "--temperatures",
        type=float,
        nargs="*",
        default=[0.6, 0.8, 1.0],
        metavar="T",
        help="temperatures of the samples (default: 0.6 0.8 1); give no value for no samples",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="windows per batch (default: 8)"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed of the samples")
    add_max_corrupt_option(parser)
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_evaluate)


def _run_evaluate(options: argparse.Namespace) -> Any:
    from vqvideo.commands.evaluate import evaluate

    files, metrics = evaluate(
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
        progress=create_progress_bar("item"),
    )
    return {"files": files, **metrics} if options.json else files
