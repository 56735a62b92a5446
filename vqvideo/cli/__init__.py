"""The command `vqvideo`: parse, call one function, print.

Results go to stdout (paths, or JSON with --json), everything else to stderr. Exit 2 for wrong
usage, 1 with one line for a failure; --debug shows the traceback instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import vqvideo
from vqvideo.cli.commands import COMMANDS


def main(arguments: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run a command line; returns the exit code.

    Args:
        arguments: without the program's name; None takes `sys.argv`.
        command: fixed in advance, for the scripts in tools/.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(command)
    options = parser.parse_args(given)
    try:
        result = options.run(options)
    except (ValueError, TypeError, LookupError, OSError, ImportError, FloatingPointError) as error:
        if options.debug:
            raise
        print(f"{parser.prog}: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return 130
    _print(result, options.json)
    return 0


def _parser(command: str | None) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if command is not None:
        help_, add = COMMANDS[command]
        parser = argparse.ArgumentParser(description=help_, parents=[common])
        add(parser)
        return parser
    parser = argparse.ArgumentParser(
        prog="vqvideo",
        description=vqvideo.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (help_, add) in COMMANDS.items():
        add(commands.add_parser(name, help=help_, description=help_, parents=[common]))
    return parser


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, default=str))
    elif isinstance(result, dict):
        for name, value in result.items():
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    elif isinstance(result, list | tuple):
        for entry in result:
            print(entry)
    else:
        print(result)


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
