"""`benchmark.py maze`."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, get_arguments, option


def _run_maze(options: argparse.Namespace) -> Any:
    from benchmarks.maze.run import MazeBenchmarkConfig, benchmark_maze
    from benchmarks.maze.table import format_maze_table

    files, results = benchmark_maze(
        MazeBenchmarkConfig(**get_arguments(options, skip=("out", "overwrite"))),
        out=options.out,
        overwrite=options.overwrite,
        progress=create_progress_bar("part"),
    )
    return {"files": files, **results} if options.json else [format_maze_table(results), "", *files]


MAZE = Command(
    "Measure how well rollouts of a maze model follow the actions.",
    _run_maze,
    [
        option("--model", "a model conditioned on the actions of record-maze", required=True),
        option("--data FOLDER", "recorded episodes, with a test split", required=True),
        option("--other-map FOLDER", "recorded episodes of another map"),
        option("--max-episodes N", "maximum episodes per folder (default: all)", int),
        option("--num-frames", "generated frames per episode (default: 100)", default=100),
        shared.TEMPERATURE,
        shared.GUIDANCE_SCALE,
        shared.SEED,
        shared.out_option("outputs/maze"),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
