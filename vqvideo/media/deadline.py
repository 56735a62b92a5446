"""A time limit for reading a file in a worker process.

A call into a C library cannot be interrupted from Python: a read that never returns, for example
from a disconnected network disk, would hang forever. A worker process can be ended instead. Its
parent (a `DataLoader`, a process pool) then raises, and the last line on stderr names the file.
The main process is never ended, because that would lose the user's work.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vqvideo.media.files import PathLike

EXIT_STATUS = 75  # EX_TEMPFAIL ("temporary failure") in sysexits.h


@contextmanager
def deadline(path: PathLike, seconds: float) -> Iterator[None]:
    """End this worker process if the block takes longer than `seconds`.

    In the main process (not started by `multiprocessing`) there is no time limit.

    Args:
        path: the file that is read, named in the message.
        seconds: time limit of the block.

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
    # Write to the file descriptor: another thread may hold the lock of sys.stderr.
    message = (
        f"{os.fspath(path)} was not read within {seconds:g} s; terminating this worker process\n"
    )
    os.write(2, message.encode(errors="backslashreplace"))
    os._exit(EXIT_STATUS)
