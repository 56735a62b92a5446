"""The command `vqvideo`: parse the arguments, call one function, print its result.

Results go to stdout (paths, or JSON with --json), everything else to stderr. The exit code is 2 for
wrong usage and 1 for a failure, with a one-line message; --debug shows the traceback instead.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vqvideo.cli.commands import COMMANDS
from vqvideo.cli.options import Command
from vqvideo.isolation import format_message
from vqvideo.version import __version__

# Arguments in the messages of functions, as in "start over with overwrite=True". They are whole
# words, unlike those in the path of a run that is named after its options.
_ARGUMENT_PATTERN = re.compile(
    r"(?<!\S)(?:(?P<flag>overwrite|resume)=True|"
    r"(?P<name>condition_on|init_from)=(?P<value>[^\s,;]+))(?=[,;.)]?(?:\s|$))"
)


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run the command line of `vqvideo` and return the exit code.

    Args:
        argv: arguments without the program's name; None for `sys.argv`.
        command: the command to run, for the scripts in tools/; None if `argv` has it.
    """
    return run(_build_parser(command), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Run the command that a parser of `add_commands` selects, and return the exit code.

    Args:
        parser: the parser.
        argv: arguments without the program's name; None for `sys.argv`.
    """
    options, unknown = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    if unknown:
        options.parser.error(_format_unknown_argument(unknown[0], options.parser))
    try:
        result = options.run(options)
    except Exception as error:  # the traceback is only shown with --debug
        if options.debug:
            raise
        print(f"{parser.prog}: {write_flags(_format_error(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"{parser.prog}: {write_flags(str(stop)) or 'interrupted'}", file=sys.stderr)
        return 130
    is_main_process = os.environ.get("RANK", "0") == "0"  # only the main process prints
    if is_main_process and result is not None:
        _print_result(result, options.json)
    return 0


def _build_parser(command: str | None) -> argparse.ArgumentParser:
    if command is not None:
        parser = argparse.ArgumentParser(description=COMMANDS[command].help, allow_abbrev=False)
        return _add_options(parser, COMMANDS[command])
    parser = argparse.ArgumentParser(
        prog="vqvideo",
        description="Encode video, audio and images as discrete codes, and generate new clips.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return add_commands(parser, COMMANDS)


def add_commands(
    parser: argparse.ArgumentParser, commands: Mapping[str, Command]
) -> argparse.ArgumentParser:
    """Add commands to a parser, so that `run` runs the one that the arguments name; return it."""
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in commands.items():
        settings: dict[str, Any] = {"help": command.help, "description": command.help}
        _add_options(subparsers.add_parser(name, **settings, allow_abbrev=False), command)
    parser.set_defaults(parser=parser)
    return parser


def _add_options(parser: argparse.ArgumentParser, command: Command) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    for add_option in command.options:
        add_option(parser)
    parser.set_defaults(run=command.run, parser=parser)
    return parser


def _format_unknown_argument(argument: str, parser: argparse.ArgumentParser) -> str:
    """Return the error message for an unknown argument, with the closest known option."""
    options = [option for action in parser._actions for option in action.option_strings]
    if argument.split("=")[0] in options:
        return f"put {argument} after the command"
    matches = difflib.get_close_matches(argument.split("=")[0], options, n=1)
    hint = f"; did you mean {matches[0]}?" if matches else "."
    kind = "option" if argument.startswith("-") else "argument"
    return f"unknown {kind} {argument}{hint} Known options: {' '.join(sorted(options))}"


def _print_result(result: Any, as_json: bool) -> None:
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


def write_flags(message: str) -> str:
    """Return a message with the arguments that it names written as flags of the command line.

    >>> write_flags("train one with condition_on=speaker, or start over with overwrite=True")
    'train one with --condition-on speaker, or start over with --overwrite'
    >>> write_flags("no checkpoint folder runs/overwrite=True/model")
    'no checkpoint folder runs/overwrite=True/model'
    """
    return _ARGUMENT_PATTERN.sub(_format_flag, message)


def _format_flag(argument: re.Match[str]) -> str:
    if argument["flag"]:
        return f"--{argument['flag']}"
    return f"--{argument['name'].replace('_', '-')} {argument['value']}"


def _format_error(error: Exception) -> str:
    """Return the message of an error, preceded by its type unless it is written for users."""
    is_user_error = isinstance(error, ValueError | OSError | ImportError | FloatingPointError)
    notes = [f"({note})" for note in getattr(error, "__notes__", ())]
    text = " ".join([format_message(error), *notes]).strip()
    if is_user_error and text:
        return text
    return ": ".join(part for part in (type(error).__name__, text) if part)
