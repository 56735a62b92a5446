"""Options of `benchmark.py maze`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from benchmarks.maze.run import MazeBenchmarkConfig, benchmark_maze
from benchmarks.maze.table import format_maze_table
from vqvideo.cli.maze import add_rollout_sampling_options
from vqvideo.cli.options import add_device_option, add_overwrite_option, create_progress_bar


def add_benchmark_maze_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `benchmark.py maze`."""
    parser.add_argument(
        "--model", required=True, help="a model conditioned on the actions of record-maze"
    )
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="recorded episodes, with a test split"
    )
    parser.add_argument("--other-map", metavar="FOLDER", help="recorded episodes of another map")
    parser.add_argument(
        "--max-episodes", type=int, metavar="N", help="maximum episodes per folder (default: all)"
    )
    parser.add_argument(
        "--num-frames", type=int, default=100, help="generated frames per episode (default: 100)"
    )
    add_rollout_sampling_options(parser)
    parser.add_argument(
        "--out",
        default="outputs/maze",
        metavar="FOLDER",
        help="output folder (default: outputs/maze)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_benchmark_maze)


def _run_benchmark_maze(options: argparse.Namespace) -> Any:
    names = [field.name for field in fields(MazeBenchmarkConfig)]
    files, results = benchmark_maze(
        MazeBenchmarkConfig(**{name: getattr(options, name) for name in names}),
        out=options.out,
        overwrite=options.overwrite,
        progress=create_progress_bar("part"),
    )
    return {"files": files, **results} if options.json else [format_maze_table(results), "", *files]
