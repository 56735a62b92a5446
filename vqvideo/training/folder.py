"""The folder of a run: who may write into it, and what an earlier run left there."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqvideo.checkpoint import MODEL, check_free
from vqvideo.training.state import FILE

LOCK = ".lock"  # free again when its process ends, however it does, where the file system has flock
TRACKED = "tensorboard"
LEFT = (  # by a run, in the order in which they go: what could be gone on with first
    FILE,
    "log.jsonl",
    "training.json",
    "report.html",
    "curves.png",
    "codebook.png",
    "reconstructions.*",
    "samples.*",
    TRACKED,
    MODEL,
)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, and clear away what a killed one left half written."""
    from filelock import FileLock, Timeout  # comes with what trains

    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as cause:
        raise RuntimeError(
            f"another process is training into {out}; wait for it, or give another --out"
        ) from cause
    try:
        for left in out.glob(".*.tmp"):
            _remove(left)
        yield
    finally:
        lock.release()


def forget(out: Path) -> None:
    """Remove what an earlier run left; a folder `model` that is no checkpoint raises
    `FileExistsError`.
    """
    check_free(out / MODEL, overwrite=True)
    for path in itertools.chain.from_iterable(out.glob(name) for name in LEFT):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
