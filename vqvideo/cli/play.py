"""Options of the command that opens a page to control a model interactively."""

from __future__ import annotations

import argparse
import json

from vqvideo.cli.options import add_device_option


def add_play_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo play`."""
    parser.add_argument("--model", default="maze", help="a shipped model or a run folder")
    parser.add_argument(
        "--start",
        nargs="+",
        metavar="FILE",
        help="images or videos to start from; default: the starts of the model",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port, 0 for any free one (default: 8765)"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address without opening a browser"
    )
    add_device_option(parser)
    parser.set_defaults(run=_run_play)


def _run_play(options: argparse.Namespace) -> None:
    from vqvideo.commands.model import find_model_folder, load_model
    from vqvideo.recipes.worlds.play import Server, get_action_labels, read_start, serve

    generator = load_model(options.model, options.device)
    get_action_labels(generator)  # raises for a model that cannot be played, before reading files
    shipped = sorted(find_model_folder(options.model).glob("start_*.png"))
    starts = [read_start(file, generator) for file in options.start or shipped]
    server = Server(generator, options.model, starts, options.port)

    def print_address(address: str) -> None:
        print(json.dumps({"address": address}) if options.json else address, flush=True)

    serve(server, print_address, open_browser=not options.no_browser)
