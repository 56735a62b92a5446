"""The commands of the recipe for worlds: `record-maze`, `rollout` and `play`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import (
    Command,
    create_progress_bar,
    flag,
    get_arguments,
    option,
    parse_seed,
    parse_size,
)


def _run_record_maze(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.worlds.record_maze import record_maze

    return record_maze(**get_arguments(options), progress=create_progress_bar("episode"))


RECORD_MAZE = Command(
    "Record episodes in a maze, with their actions.",
    _run_record_maze,
    [
        option("--out FOLDER", "output folder", required=True),
        option("--num-episodes", "number of episodes (default: 200)", default=200),
        option("--num-frames", "frames per episode (default: 101)", default=101),
        option("--size HxW", "frame size (default: 64x64)", parse_size, default=(64, 64)),
        option(
            "--scenario",
            "maze: my_way_home (default) or health_gathering_supreme",
            default="my_way_home",
        ),
        option("--seed", "random seed of the first episode", parse_seed, default=0),
        option(
            "--test-fraction", "fraction of episodes in the test split (default: 0.1)", default=0.1
        ),
        shared.OVERWRITE,
    ],
)


def _run_rollout(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.worlds.rollout import render_rollout

    arguments = get_arguments(options, skip=("file",))
    return [render_rollout(options.file, **arguments, progress=create_progress_bar("code"))]


ROLLOUT = Command(
    "Render a model's rollout next to a recorded episode.",
    _run_rollout,
    [
        option(
            "file",
            "an episode recorded by record-maze, with its .actions.npy file; default: the one "
            "that ships with the weights",
            nargs="?",
        ),
        shared.model_option("maze"),
        shared.out_option("outputs/rollout.gif", "output file, .gif or .mp4"),
        option("--num-frames", "total frames, six real ones included; default: all", int),
        shared.TEMPERATURE,
        shared.GUIDANCE_SCALE,
        shared.SEED,
        option("--scale", "factor by which the video is enlarged (default: 3)", default=3),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)


def _run_play(options: argparse.Namespace) -> None:
    from vqvideo.recipes.worlds.play import build_server, serve

    server = build_server(options.model, options.start, options.port, options.device)

    def print_address(address: str) -> None:
        print(json.dumps({"address": address}) if options.json else address, flush=True)

    serve(server, print_address, open_browser=not options.no_browser)


PLAY = Command(
    "Control the video that a model generates, in the browser.",
    _run_play,
    [
        shared.model_option("maze"),
        option(
            "--start FILE",
            "images or videos to start from; default: the starts of the model",
            nargs="+",
        ),
        option("--port", "port, 0 for any free one (default: 8765)", default=8765),
        flag("--no-browser", "print the address without opening a browser"),
        shared.DEVICE,
    ],
)
