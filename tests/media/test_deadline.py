"""A read that never ends takes its worker process with it, and says which file it was."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vqvideo.media import deadline

WORKERS = """
import sys, time
import multiprocessing

from vqvideo.media import deadline

def read(seconds):
    with deadline("stuck video.mp4", seconds=0.5):
        time.sleep(seconds)  # in C, as a decoder that waits for a disk
    time.sleep(0.8)  # a deadline that was kept is over

if __name__ == "__main__":
    for seconds in (0.1, 60):
        worker = multiprocessing.Process(target=read, args=(seconds,))
        worker.start()
        worker.join()
        print(worker.exitcode)
"""


@pytest.mark.slow
def test_a_worker_that_is_stuck_ends_and_names_the_file(tmp_path: Path) -> None:
    script = tmp_path / "workers.py"  # a file, for processes that are spawned import it
    script.write_text(WORKERS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert done.stdout.split() == ["0", "75"], done.stderr
    assert (
        done.stderr
        == "stuck video.mp4 was not read within 0.5 s; terminating this worker process\n"
    )


def test_nothing_ends_in_the_main_process() -> None:
    before = threading.active_count()
    with deadline("a.mp4", seconds=0.05):
        assert threading.active_count() == before, "nothing waits to end this process"
        time.sleep(0.2)


def test_a_time_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="seconds must be above zero, got 0"), deadline("a", 0):
        pass
