"""Options of the command that uploads a model to the hub."""

from __future__ import annotations

import argparse
from typing import Any


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo push`."""
    parser.add_argument("--model", required=True, help="a shipped model or a run folder")
    parser.add_argument(
        "--to",
        required=True,
        metavar="ORG/NAME",
        help="repository, created if it does not exist",
    )
    parser.add_argument(
        "--license",
        required=True,
        metavar="ID",
        help="license identifier of the hub, for example apache-2.0",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="create a private repository; fail if it exists and is public",
    )
    parser.add_argument(
        "--revision",
        metavar="BRANCH",
        help="branch, created if it does not exist (default: main)",
    )
    parser.set_defaults(run=_run_push)


def _run_push(options: argparse.Namespace) -> Any:
    from vqvideo.commands.push import push_to_hub

    return push_to_hub(
        options.model,
        options.to,
        license=options.license,
        private=options.private,
        revision=options.revision,
    )
