"""The commands about parts that other packages add."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from vqvideo.plugins import KINDS, are_disabled, found

COLUMNS = ("kind", "name", "package", "version", "status", "error")


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo plugins`."""
    parser.add_argument(
        "--load", action="store_true", help="import each, to see which fail; else none is imported"
    )
    parser.set_defaults(run=_plugins)


def _plugins(options: argparse.Namespace) -> Any:
    from vqvideo.models import list_plugins

    rows = [[getattr(each, key) for key in COLUMNS] for each in list_plugins(load=options.load)]
    if options.json:
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if not rows:
        why = "VQVIDEO_DISABLE_PLUGINS is set" if are_disabled() else "no package offers any"
        print(f"no plugins: {why}", file=sys.stderr)
        return []
    return _table([COLUMNS, *rows])


def add_new_plugin(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo new-plugin`."""
    parser.add_argument("name", help="of the part and of the project, as my-quantizer")
    parser.add_argument("--kind", choices=KINDS, default="quantizer", help="default: quantizer")
    parser.add_argument("--out", metavar="FOLDER", help="to make; default: the name")
    parser.set_defaults(run=_new_plugin)


def _new_plugin(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.new_plugin import new_plugin

    return new_plugin(options.name, kind=options.kind, out=options.out)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [map(str.ljust, row, widths) for row in rows]
    return ["  ".join(row).rstrip() for row in padded]


def list_in_help(parser: argparse.ArgumentParser) -> None:
    """Let the help of a command that takes names of parts end with those of plugins."""
    plain = parser.format_help

    def with_plugins() -> str:
        parser.epilog = _usable()  # looked for when somebody reads it, not at every start
        return plain()

    parser.format_help = with_plugins  # type: ignore[method-assign]


def _usable() -> str | None:
    if not found():
        return None
    from vqvideo.models import list_plugins  # which knows those that a part of ours hides

    usable = [str(each) for each in list_plugins() if each.status in ("available", "loaded")]
    return f"From installed packages: {', '.join(usable)}." if usable else None
