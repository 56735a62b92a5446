"""Commands as lists of options, the parsers of their values, and their progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

AddOption = Callable[[argparse.ArgumentParser], object]  # an option adds itself to a parser
ProgressCallback = Callable[[int, int], None]
GENERAL_OPTIONS = ("json", "debug", "run", "parser")  # of every command, not of its function


class Command(NamedTuple):
    """A command: its help, the function that runs it with the parsed options, and its options.

    Functions import what they call only when they run, so that --help and usage errors are fast.
    """

    help: str
    run: Callable[[argparse.Namespace], Any]
    options: Sequence[AddOption] = ()


def option(
    name: str,
    help: str,
    type: Callable[[str], Any] | None = None,
    *,
    default: Any = None,
    **settings: Any,
) -> AddOption:
    """Return an option, or a positional argument.

    Args:
        name: `--option`, `--option METAVAR`, or the same of a positional argument.
        help: the help.
        type: parser of the value; None for the type of a default that is a number, else text.
        default: the value if the option is not given.
        settings: more arguments of `ArgumentParser.add_argument`.
    """
    name, _, metavar = name.partition(" ")
    if type is None and isinstance(default, int | float):
        type = default.__class__
    known = {"type": type, "default": default, "metavar": metavar or None, **settings}
    known = {key: value for key, value in known.items() if value is not None}
    return lambda parser: parser.add_argument(name, help=help, **known)


def flag(name: str, help: str) -> AddOption:
    """Return an option without a value."""
    return lambda parser: parser.add_argument(name, help=help, action="store_true")


def get_arguments(options: argparse.Namespace, *, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options of a command as arguments of its function, without those to `skip`."""
    reserved = {*GENERAL_OPTIONS, *skip}
    return {name: value for name, value in vars(options).items() if name not in reserved}


def parse_size(text: str) -> tuple[int, int]:
    """Parse `HxW` as two integers."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW, for example 64x64, got {text!r}") from None
    return height, width


def parse_seed(text: str) -> int:
    """Parse a seed; see `vqvideo.arguments.check_seed`."""
    from vqvideo.arguments import check_seed  # imports torch

    try:
        return check_seed(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_list(parse: Callable[[str], Any] = str) -> Callable[[str], list[Any]]:
    """Return a parser of values separated by commas."""

    def parse_values(text: str) -> list[Any]:
        return [parse(part.strip()) for part in text.split(",")]

    parse_values.__name__ = f"list of {parse.__name__}"  # argparse names it in its errors
    return parse_values


def create_progress_bar(unit: str) -> ProgressCallback:
    """Return a callback that shows a progress bar on stderr, or nothing if it is no terminal."""
    from tqdm import tqdm

    bars: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, unit=unit, disable=None))
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars.pop().close()

    return show
