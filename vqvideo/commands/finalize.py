"""Write the files of a finished run: its model card, a plot of its codebook, its report page."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import Subset

from vqvideo.checkpoint import MODEL_DIR, load
from vqvideo.data.clips import ClipDataset
from vqvideo.data.items import evenly_spaced
from vqvideo.distributed import join_processes
from vqvideo.model_card import write_card
from vqvideo.report import codebook_report, write_run_page

MAX_WINDOWS = 256  # held-out windows for the plot of the codebook


@contextmanager
def finalize_run(out: str, val: ClipDataset | None = None) -> Iterator[None]:
    """Write the files of a run after the block: finished, interrupted by the user, or diverged.

    Args:
        out: folder of the run.
        val: held-out data for the plot of the codebook; None for no plot.
    """
    try:
        yield
    except (KeyboardInterrupt, FloatingPointError):
        try:
            _write_run_files(Path(out), val)
        except Exception as error:  # the reason why the run ended matters more
            warnings.warn(f"the report page of {out} was not written: {error}", stacklevel=2)
        raise
    _write_run_files(Path(out), val)


def _write_run_files(run: Path, val: ClipDataset | None) -> None:
    has_measured = (run / "log.jsonl").is_file() and (run / MODEL_DIR).is_dir()
    if not join_processes().is_main_process or not has_measured:
        return
    write_card(run)
    if val is not None:
        indices = evenly_spaced(range(len(val)), MAX_WINDOWS, from_start=True)
        subset = Subset(val, indices)
        codebook_report(load(run), subset).write_plot(run / "codebook.png")
    write_run_page(run, get_command_line())


def get_command_line() -> str:
    """Return the command line of this process, so that it can be repeated."""
    program, *arguments = sys.argv
    is_module = Path(program).name == "__main__.py"
    words = ["python", "-m", Path(program).parent.name] if is_module else [Path(program).name]
    return shlex.join([*words, *arguments])
