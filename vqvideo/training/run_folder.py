"""The folder of a run: its lock, and the files of an earlier run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqvideo.atomic import TEMPORARY_DIR, remove_abandoned
from vqvideo.checkpoint import MODEL_DIR, check_overwrite
from vqvideo.training.state import STATE_NAME

# Where the file system supports flock, the lock is released even if its process is killed.
LOCK_NAME = ".lock"
TENSORBOARD_DIR = "tensorboard"
PREVIEW_SUFFIXES = (".png", ".mp4", ".wav")
RUN_FILES = (  # in the order of deletion: first the state, so that no partial run can be resumed
    STATE_NAME,
    "log.jsonl",
    "training.json",
    "report.html",
    "curves.png",
    "codebook.png",
    *(f"{name}{suffix}" for name in ("reconstructions", "samples") for suffix in PREVIEW_SUFFIXES),
    TENSORBOARD_DIR,
    MODEL_DIR,
)


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Lock the folder of a run, and remove temporary files of a killed run.

    Raises:
        RuntimeError: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # installed with the extra `train`

    lock = FileLock(out / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as cause:
        raise RuntimeError(
            f"another process is training into {out}; wait for it, or give another folder"
        ) from cause
    try:
        remove_abandoned(out)
        for temporary in out.glob(".*.tmp"):  # left by versions that wrote beside the target
            if temporary.name != TEMPORARY_DIR:
                _remove(temporary)
        yield
    finally:
        lock.release()


def check_owned(out: Path) -> None:
    """Raise `FileExistsError` if a run would replace a file in `out` that no run wrote.

    A run writes its state before anything else, so a folder without a state has no files of a run;
    those with the same names, such as `samples.png`, belong to the user.
    """
    check_overwrite(out / MODEL_DIR, overwrite=True)
    if (out / STATE_NAME).exists():
        return
    for name in RUN_FILES:
        if os.path.lexists(out / name):
            raise FileExistsError(
                f"{out / name} exists, and {out} has no state of a run that wrote it; give another "
                f"folder, or overwrite=True to replace it"
            )


def clear_run(out: Path) -> None:
    """Remove the files of an earlier run.

    Raises:
        FileExistsError: the folder `model` is not a checkpoint.
    """
    check_overwrite(out / MODEL_DIR, overwrite=True)
    for name in RUN_FILES:
        _remove(out / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
