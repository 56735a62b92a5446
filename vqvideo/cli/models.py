"""The commands that list and copy models: `models`, `export` and `push`."""

from __future__ import annotations

import argparse
from typing import Any

import vqvideo
from vqvideo.cli import shared
from vqvideo.cli.options import Command, flag, get_arguments, option

MODELS = Command(
    "List the registered models.",
    lambda options: vqvideo.list_models(options.pattern),
    [option("pattern", "wildcard pattern, for example 'vid*'", default="*", nargs="?")],
)


def _run_export(options: argparse.Namespace) -> Any:
    from vqvideo.commands.export import export

    folder, size = export(**get_arguments(options))
    return {"folder": folder, "megabytes": size / 1e6}


EXPORT = Command(
    "Copy a model with smaller weights.",
    _run_export,
    [
        shared.model_option(),
        option("--out FOLDER", "folder to write", required=True),
        option(
            "--dtype",
            "data type of the stored weights (default: int8)",
            default="int8",
            choices=("int8", "float16", "float32"),
        ),
        shared.OVERWRITE,
    ],
)


def _run_push(options: argparse.Namespace) -> Any:
    from vqvideo.commands.push import push_to_hub

    arguments = get_arguments(options, skip=("model", "to"))
    return push_to_hub(options.model, options.to, **arguments)


PUSH = Command(
    "Upload a model to the Hugging Face hub, with its card.",
    _run_push,
    [
        shared.model_option(),
        option("--to ORG/NAME", "repository, created if it does not exist", required=True),
        option(
            "--license ID", "license identifier of the hub, for example apache-2.0", required=True
        ),
        flag("--private", "create a private repository; fail if it exists and is public"),
        option("--revision BRANCH", "branch, created if it does not exist (default: main)"),
    ],
)
