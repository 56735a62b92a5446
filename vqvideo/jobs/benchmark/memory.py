"""The peak memory of a training step and of an evaluation, as Linux counts it.

The peak is the most memory a process has held during a call (VmHWM, which can be set back), less
what it held before (VmRSS). Unlike a count of tensors this has in it what libraries take for
themselves. Two things would spoil it and are kept out:

- glibc keeps memory that is freed, so a call may find there what it needs and seem to need less.
  With a low `M_MMAP_THRESHOLD` each block above it goes back at once. That is a setting of a
  whole process, and what ran before leaves its traces too, so each contender gets a new process.
- The first call loads code and starts threads, some 10 MiB once in a process: it goes ahead and
  does not count.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vqvideo.jobs.benchmark.contenders import CONTENDERS, SIZES, Problem, Size
from vqvideo.jobs.benchmark.timing import threads as on_threads

MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 64 * 1024  # bytes: blocks from here on go back at once


def peak_mib(
    contender: str, size: str, *, threads: int = 2, timeout_s: float = 60
) -> dict[str, float] | None:
    """Peak extra memory in MiB of a training step ("train") and of an evaluation ("eval").

    Measured in a new process. None where it cannot be: outside Linux and glibc, when it takes
    longer than `timeout_s`, and when the machine has too little memory and ends the process.

    Args:
        contender: a name of `CONTENDERS`.
        size: a name of `SIZES`.
        threads: of torch.
        timeout_s: most seconds that it may take, the start of the process among them.
    """
    if not can_measure():
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, contender, size, str(threads)],
            env={**os.environ, "THP_MEM_ALLOC_ENABLE": "0"},  # huge pages count in 2 MiB
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode < 0:
        return None
    if done.returncode > 0:
        raise RuntimeError(f"memory could not be measured: {done.stderr.strip()[-500:]}")
    peaks: dict[str, float] = json.loads(done.stdout)
    return peaks


def allowed_mib(size: Size) -> dict[str, float]:
    """What ours is held to: 5 inputs and 2 codebooks in training, 1.2 inputs in evaluation.

    Both and 8 MiB. In training that is z_q, its gradient and that of z_e, their difference, and
    one to spare; of the codebook, the sums of a step and one to spare. An evaluation gives z_q.
    """
    one_input = size.num_vectors * size.code_dim * 4 / MIB
    one_codebook = size.codebook_size * size.code_dim * 4 / MIB
    return {"train": 5 * one_input + 2 * one_codebook + 8, "eval": 1.2 * one_input + 8}


def can_measure() -> bool:
    """Whether this system has all that `peak_bytes` needs."""
    if sys.platform != "linux" or not os.access(CLEAR, os.W_OK):
        return False
    return hasattr(ctypes.CDLL(None), "mallopt")


def give_back_at_once() -> None:
    """From now on freed blocks of 64 KiB and more go back to the system. For a whole process."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def peak_bytes(call: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int:
    """The most memory that `call` holds at a time beyond what is held before it.

    Call `give_back_at_once` early in the process. `prepare` goes before each of the two calls,
    of which the second counts.
    """
    prepare()
    call()
    prepare()
    CLEAR.write_text("5")  # the peak is now what is held
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(field + ":"))
    return int(kilobytes) * 1024


def _measure(contender: str, size: str) -> dict[str, float]:
    one = CONTENDERS[contender](Problem(SIZES[size]))
    return {
        "train": peak_bytes(one.step, lambda: one.prepare(training=True)) / MIB,
        "eval": peak_bytes(one.lookup, lambda: one.prepare(training=False)) / MIB,
    }


if __name__ == "__main__":
    give_back_at_once()
    with on_threads(int(sys.argv[3])):
        print(json.dumps(_measure(sys.argv[1], sys.argv[2])))
