"""The command that opens a page on which one walks through what a model imagines."""

from __future__ import annotations

import argparse
import json

from vqvideo.cli.options import add_device


def add_play(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo play`."""
    parser.add_argument("--model", default="maze", help="a shipped model or the folder of a run")
    parser.add_argument(
        "--start",
        nargs="+",
        metavar="FILE",
        help="pictures or videos to begin with; default: those beside the weights",
    )
    parser.add_argument("--port", type=int, default=8765, help="default 8765; 0: any that is free")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    add_device(parser)
    parser.set_defaults(run=_play)


def _play(options: argparse.Namespace) -> None:
    from vqvideo.demo import Server, actions_of, read_start, serve
    from vqvideo.jobs.model import model_folder, open_model

    generator = open_model(options.model, options.device)
    actions_of(generator)  # a model of sound has no use for pictures
    shipped = sorted(model_folder(options.model).glob("start_*.png"))
    starts = [read_start(file, generator) for file in options.start or shipped]
    server = Server(generator, options.model, starts, options.port)

    def say(address: str) -> None:
        print(json.dumps({"address": address}) if options.json else address, flush=True)

    serve(server, say, browser=not options.no_browser)
