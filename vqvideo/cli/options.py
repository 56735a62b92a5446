"""Options that several commands have, and the progress bar that they show."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

AddOptions = Callable[[argparse.ArgumentParser], None]
Progress = Callable[[int, int], None]


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """--overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")


def add_max_corrupt(parser: argparse.ArgumentParser) -> None:
    """The option of commands that read many files of others."""
    parser.add_argument(
        "--max-corrupt",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the files that may be unreadable and left out (default: 0.01)",
    )


def size(text: str) -> tuple[int, int]:
    """`HxW` as two integers."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW, as 64x64, got {text!r}") from None
    return height, width


def progress_bar(unit: str) -> Progress:
    """A progress bar on stderr with rate and time left; silent where stderr is no terminal."""
    from tqdm import tqdm

    bars: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, unit=unit, disable=None))
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars.pop().close()

    return show
