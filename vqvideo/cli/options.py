"""Options that several commands share, and their progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

AddOptions = Callable[[argparse.ArgumentParser], None]
ProgressCallback = Callable[[int, int], None]


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", default="auto", help="device: auto, cpu, cuda or mps (default: auto)"
    )


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def add_max_corrupt_option(parser: argparse.ArgumentParser) -> None:
    """Add --max-corrupt."""
    parser.add_argument(
        "--max-corrupt",
        type=float,
        default=0.01,
        metavar="FRACTION",
        help="largest fraction of unreadable files to skip without an error (default: 0.01)",
    )


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
