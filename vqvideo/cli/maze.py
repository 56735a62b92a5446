"""Options of the maze commands: record episodes, render a rollout."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import (
    add_device_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
    parse_size,
)


def add_record_maze_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo record-maze`."""
    parser.add_argument("--out", required=True, metavar="FOLDER", help="output folder")
    parser.add_argument(
        "--num-episodes", type=int, default=200, help="number of episodes (default: 200)"
    )
    parser.add_argument(
        "--num-frames", type=int, default=101, help="frames per episode (default: 101)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=(64, 64),
        metavar="HxW",
        help="frame size (default: 64x64)",
    )
    parser.add_argument(
        "--scenario",
        default="my_way_home",
        help="maze: my_way_home (default) or health_gathering_supreme",
    )
    parser.add_argument(
        "--seed", type=parse_seed, default=0, help="random seed of the first episode"
    )
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.1,
        help="fraction of episodes in the test split (default: 0.1)",
    )
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_record_maze)


def _run_record_maze(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.worlds.record_maze import record_maze

    names = ("num_episodes", "num_frames", "size", "scenario", "seed", "test_fraction", "overwrite")
    arguments = {name: getattr(options, name) for name in names}
    return record_maze(options.out, **arguments, progress=create_progress_bar("episode"))


def add_rollout_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo rollout`."""
    parser.add_argument(
        "file",
        nargs="?",
        help="an episode recorded by record-maze, with its .actions.npy file; default: the one "
        "that ships with the weights",
    )
    parser.add_argument("--model", default="maze", help="a shipped model or a run folder")
    parser.add_argument(
        "--out",
        default="outputs/rollout.gif",
        help="output file, .gif or .mp4 (default: outputs/rollout.gif)",
    )
    parser.add_argument(
        "--num-frames", type=int, help="total frames, six real ones included; default: all"
    )
    add_rollout_sampling_options(parser)
    parser.add_argument(
        "--scale", type=int, default=3, help="factor by which the video is enlarged (default: 3)"
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_rollout)


def add_rollout_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the sampling options of rollouts."""
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="temperature of the prior; 0 takes the most probable code (default: 1)",
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        metavar="G",
        help="scale of classifier-free guidance; above 1 strengthens the actions",
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed")


def _run_rollout(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.worlds.rollout import render_rollout

    sampling = ("num_frames", "temperature", "guidance_scale", "seed", "scale")
    names = ("model", "out", *sampling, "device", "overwrite")
    arguments = {name: getattr(options, name) for name in names}
    return [render_rollout(options.file, **arguments, progress=create_progress_bar("code"))]
