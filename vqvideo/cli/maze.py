"""The commands about walks through a maze: record some, film one, measure a model of them."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from vqvideo.cli.options import add_device, add_overwrite, progress_bar, size


def add_record_maze(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo record-maze`."""
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--num-episodes", type=int, default=200)
    parser.add_argument("--num-frames", type=int, default=101, help="of each episode")
    parser.add_argument("--size", type=size, default=(64, 64), metavar="HxW")
    parser.add_argument(
        "--scenario", default="my_way_home", help="or health_gathering_supreme, another labyrinth"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--test-fraction", type=float, default=0.1, help="episodes held out")
    add_overwrite(parser)
    parser.set_defaults(run=_record_maze)


def _record_maze(options: argparse.Namespace) -> Any:
    from vqvideo.data.maze import record_maze

    names = ("num_episodes", "num_frames", "size", "scenario", "seed", "test_fraction", "overwrite")
    chosen = {name: getattr(options, name) for name in names}
    return record_maze(options.out, **chosen, progress=progress_bar("episode"))


def add_walk(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo walk`."""
    parser.add_argument(
        "file",
        nargs="?",
        help="a recording of record-maze, its .actions.npy beside it; default: that beside the "
        "weights",
    )
    parser.add_argument("--model", default="maze", help="a shipped model or the folder of a run")
    parser.add_argument("--out", default="outputs/walk.gif", help=".gif or .mp4")
    parser.add_argument("--num-frames", type=int, help="in all, six real ones included")
    parser.add_argument("--temperature", type=float, default=1.0, help="0: the most probable code")
    parser.add_argument(
        "--guidance", type=float, metavar="G", help="above 1: what is done decides more"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=3, help="how many times larger (default 3)")
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_walk)


def _walk(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.walk import film_walk

    drawing = ("num_frames", "temperature", "guidance", "seed", "scale")
    names = ("model", "out", *drawing, "device", "overwrite")
    chosen = {name: getattr(options, name) for name in names}
    return [film_walk(options.file, **chosen, progress=progress_bar("code"))]


def add_benchmark_maze(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark maze`."""
    parser.add_argument("--model", required=True, help="told the actions of record-maze")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="recordings, a part of them held out"
    )
    parser.add_argument("--other", metavar="FOLDER", help="recordings of another map")
    parser.add_argument(
        "--max-episodes", type=int, metavar="N", help="measured of each folder (default all)"
    )
    parser.add_argument(
        "--num-frames", type=int, default=100, help="imagined of each episode (default 100)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="0: the most probable code")
    parser.add_argument("--guidance", type=float, help="how strongly what is done decides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="outputs/maze", metavar="FOLDER")
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_benchmark_maze)


def _benchmark_maze(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.maze.run import MazeBench, benchmark_maze
    from vqvideo.jobs.benchmark.maze.table import maze_table

    names = [entry.name for entry in fields(MazeBench)]
    files, found = benchmark_maze(
        MazeBench(**{name: getattr(options, name) for name in names}),
        out=options.out,
        overwrite=options.overwrite,
        progress=progress_bar("part"),
    )
    return {"files": files, **found} if options.json else [maze_table(found), "", *files]
