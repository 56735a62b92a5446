"""The folder of a run: its lock, and the files of an earlier run."""

from __future__ import annotations

import itertools
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
RUN_FILES = (  # in the order of deletion: first the state, so that no partial run can be resumed
    STATE_NAME,
    "log.jsonl",
    "training.json",
    "report.html",
    "curves.png",
    "codebook.png",
    "reconstructions.*",
    "samples.*",
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
            f"another process is training into {out}; wait for it, or give another --out"
        ) from cause
    try:
        remove_abandoned(out)
        for temporary in out.glob(".*.tmp"):  # left by versions that wrote beside the target
            if temporary.name != TEMPORARY_DIR:
                _remove(temporary)
        yield
    finally:
        lock.release()


def clear_run(out: Path) -> None:
    """Remove the files of an earlier run.

    Raises:
        FileExistsError: the folder `model` is not a checkpoint.
    """
    check_overwrite(out / MODEL_DIR, overwrite=True)
    for path in itertools.chain.from_iterable(out.glob(name) for name in RUN_FILES):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
