"""The command `vqvideo`: parse, call one function, print.

Results go to stdout (paths, or JSON with --json), everything else to stderr. Exit 2 for wrong
usage, 1 with one line for a failure; --debug shows the traceback instead.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vqvideo.cli.commands import COMMANDS
from vqvideo.cli.options import AddOptions
from vqvideo.version import __version__


def main(arguments: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run a command line; returns the exit code.

    Args:
        arguments: without the program's name; None takes `sys.argv`.
        command: fixed in advance, for the scripts in tools/.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(command)
    options, unknown = parser.parse_known_args(given)
    if unknown:
        options.parser.error(_unknown(unknown[0], options.parser))
    try:
        result = options.run(options)
    except Exception as error:  # a traceback is for --debug
        if options.debug:
            raise
        print(f"{parser.prog}: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"{parser.prog}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    speaks = os.environ.get("RANK", "0") == "0"  # of several processes, the first for all
    if speaks and result is not None:
        _print(result, options.json)
    return 0


def _parser(command: str | None) -> argparse.ArgumentParser:
    if command is not None:
        help_, content = COMMANDS[command]
        return _filled(argparse.ArgumentParser(description=help_, allow_abbrev=False), content)
    parser = argparse.ArgumentParser(
        prog="vqvideo",
        description="Video, audio and images as discrete codes, and new clips from them.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return _filled(parser, COMMANDS)


def _filled(
    parser: argparse.ArgumentParser, content: AddOptions | Mapping[str, tuple[str, Any]]
) -> argparse.ArgumentParser:
    """The parser of a command, with its options, or of a group, with its commands."""
    if isinstance(content, Mapping):
        commands = parser.add_subparsers(required=True, metavar="COMMAND")
        for name, (help_, inner) in content.items():
            sub = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
            _filled(sub, inner)
    else:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        content(parser)
    parser.set_defaults(parser=parser)  # of all that a command line goes through, the last stays
    return parser


def _unknown(given: str, parser: argparse.ArgumentParser) -> str:
    known = [option for action in parser._actions for option in action.option_strings]
    if given.split("=")[0] in known:
        return f"put {given} after the command"
    close = difflib.get_close_matches(given.split("=")[0], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    kind = "option" if given.startswith("-") else "argument"
    return f"unknown {kind} {given}{hint} It takes: {' '.join(sorted(known))}"


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


def _one_line(error: Exception) -> str:
    """The message alone where it was written for the user, else with the kind of error."""
    written = isinstance(error, ValueError | OSError | ImportError | FloatingPointError)
    notes = [f"({note})" for note in getattr(error, "__notes__", ())]
    text = " ".join([*str(error).split(), *notes])
    if written and text:
        return text
    return ": ".join(part for part in (type(error).__name__, text) if part)
