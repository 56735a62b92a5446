"""The commands for plugins: `plugins` and `new-plugin`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from vqvideo.cli.options import Command, flag, get_arguments, option
from vqvideo.plugins import PART_KINDS, are_plugins_disabled, find_plugins

COLUMNS = ("kind", "name", "package", "version", "status", "error")


def _run_plugins(options: argparse.Namespace) -> Any:
    from vqvideo.models import list_plugins

    rows = [[getattr(plugin, key) for key in COLUMNS] for plugin in list_plugins(load=options.load)]
    if options.json:
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if not rows:
        reason = (
            "VQVIDEO_DISABLE_PLUGINS is set"
            if are_plugins_disabled()
            else "no installed package has any"
        )
        print(f"no plugins: {reason}", file=sys.stderr)
        return []
    return _format_table([COLUMNS, *rows])


PLUGINS = Command(
    "List the parts of installed plugins.",
    _run_plugins,
    [flag("--load", "import each plugin, to see which ones fail")],
)


def _run_new_plugin(options: argparse.Namespace) -> Any:
    from vqvideo.commands.new_plugin import create_plugin

    return create_plugin(**get_arguments(options))


NEW_PLUGIN = Command(
    "Create a project that adds a part to vqvideo.",
    _run_new_plugin,
    [
        option("name", "name of the part and the project, for example my-quantizer"),
        option(
            "--kind",
            "kind of the part (default: quantizer)",
            default="quantizer",
            choices=PART_KINDS,
        ),
        option("--out FOLDER", "folder to create; default: the name"),
    ],
)


def _format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [map(str.ljust, row, widths) for row in rows]
    return ["  ".join(row).rstrip() for row in padded]


def add_plugins_to_help(parser: argparse.ArgumentParser) -> None:
    """Append the parts of installed plugins to the help of a command that takes part names."""
    format_help = parser.format_help

    def format_help_with_plugins() -> str:
        parser.epilog = _format_usable_plugins()  # searched only when the help is shown
        return format_help()

    parser.format_help = format_help_with_plugins  # type: ignore[method-assign]


def _format_usable_plugins() -> str | None:
    """Return a sentence that lists the usable parts of plugins, or None without any."""
    if not find_plugins():
        return None
    from vqvideo.models import list_plugins  # it excludes shadowed names

    usable = [str(plugin) for plugin in list_plugins() if plugin.status in ("available", "loaded")]
    return f"From installed packages: {', '.join(usable)}." if usable else None
