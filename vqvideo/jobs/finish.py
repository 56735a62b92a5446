"""What a run leaves for people when it ends: its card, a picture of its codebook, its page."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import Subset

from vqvideo.card import write_card
from vqvideo.checkpoint import MODEL, load
from vqvideo.data.clips import ClipDataset
from vqvideo.report import codebook_report, write_page

MOST = 256  # held-out windows that the picture of the codebook is drawn from


@contextmanager
def finished(out: str, held_out: ClipDataset | None = None) -> Iterator[None]:
    """Leave all that in a run's folder after training: done, stopped by its user, or diverged.

    Args:
        out: the run's folder.
        held_out: what the picture of the codebook is drawn from; None draws none.
    """
    try:
        yield
    except (KeyboardInterrupt, FloatingPointError):
        try:
            _leave(Path(out), held_out)
        except Exception as error:  # why the run ended matters more
            warnings.warn(f"the page of {out} could not be written: {error}", stacklevel=2)
        raise
    _leave(Path(out), held_out)


def _leave(run: Path, held_out: ClipDataset | None) -> None:
    from accelerate import PartialState  # imports for a second

    has_measured = (run / "log.jsonl").is_file() and (run / MODEL).is_dir()
    if not PartialState().is_main_process or not has_measured:
        return
    write_card(run)
    if held_out is not None:
        number = min(MOST, len(held_out))
        some = Subset(held_out, [index * len(held_out) // number for index in range(number)])
        codebook_report(load(run), some).write_picture(run / "codebook.png")
    write_page(run, command_line())


def command_line() -> str:
    """What was typed, for people to type again."""
    program, *arguments = sys.argv
    is_module = Path(program).name == "__main__.py"
    start = ["python", "-m", Path(program).parent.name] if is_module else [Path(program).name]
    return shlex.join([*start, *arguments])
