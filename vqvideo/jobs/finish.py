"""What a run leaves for people when it ends: its card, a picture of its codebook, its page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import Subset

from vqvideo.card import write_card
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.generator import Generator
from vqvideo.report import codebook_report, write_page

MOST = 256  # held-out windows that the picture of the codebook is drawn from


@contextmanager
def finished(
    out: str, generator: Generator | None = None, held_out: ClipDataset | None = None
) -> Iterator[None]:
    """Leave all that in a run's folder after training: done, stopped by its user, or diverged.

    Args:
        out: the run's folder.
        generator: whose codebook is drawn; None draws none.
        held_out: what it is drawn from.
    """
    from accelerate import PartialState  # imports for a second

    def leave() -> None:
        if not PartialState().is_main_process or not _has_measured(Path(out)):
            return
        write_card(out)
        if generator is not None and held_out is not None:
            report = codebook_report(generator, _some_of(held_out))
            report.write_picture(Path(out) / "codebook.png")
        write_page(out, shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))

    try:
        yield
    except (KeyboardInterrupt, FloatingPointError):
        leave()
        raise
    leave()


def _has_measured(run: Path) -> bool:
    log = run / "log.jsonl"
    return log.is_file() and log.stat().st_size > 0


def _some_of(data: ClipDataset) -> Subset[Sample]:
    number = min(MOST, len(data))
    return Subset(data, [index * len(data) // number for index in range(number)])
