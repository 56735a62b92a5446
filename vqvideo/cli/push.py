"""The command that puts a model on the hub."""

from __future__ import annotations

import argparse
from typing import Any


def add_push(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo push`."""
    parser.add_argument("--model", required=True, help="a shipped model or the folder of a run")
    parser.add_argument("--to", required=True, metavar="ORG/NAME", help="made if there is none")
    parser.add_argument(
        "--licence", required=True, metavar="ID", help="as the hub calls it, such as apache-2.0"
    )
    parser.add_argument("--private", action="store_true", help="refuse to put it where all can see")
    parser.add_argument("--revision", metavar="BRANCH", help="made if there is none; default: main")
    parser.set_defaults(run=_push)


def _push(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.push import push_to_hub

    return push_to_hub(
        options.model,
        options.to,
        licence=options.licence,
        private=options.private,
        revision=options.revision,
    )
