"""A time limit for reading a file in a worker process.

A call into a C library cannot be interrupted from Python: a read that never returns, as on a
network disk that went away, would hang for ever. A worker process can be ended instead.
Whoever waits for it (a `DataLoader`, a pool) then raises, and the last line on stderr names the
file. In the main process nothing is ended, for that would take the user's work with it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vqvideo.media.files import PathLike

EXIT_STATUS = 75  # of a process ended by a deadline: "temporary failure" in sysexits.h


@contextmanager
def deadline(path: PathLike, seconds: float) -> Iterator[None]:
    """End this worker process when the block takes longer than `seconds`.

    In the main process (one that `multiprocessing` did not start) the block just runs.

    Args:
        path: the file that is read, to be named.
        seconds: how long the block may take.

    Raises:
        ValueError: `seconds` is not above zero.

    >>> with deadline("clip.mp4", seconds=60):
    ...     pass  # clip = read_video("clip.mp4")
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be above zero, got {seconds}")
    if multiprocessing.parent_process() is None:
        yield
        return
    timer = threading.Timer(seconds, _end_process, (path, seconds))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process(path: PathLike, seconds: float) -> None:
    # Straight to the file descriptor: another thread may hold the lock of sys.stderr.
    message = f"{os.fspath(path)} was not read within {seconds:g} s: this process ends\n"
    os.write(2, message.encode(errors="backslashreplace"))
    os._exit(EXIT_STATUS)
