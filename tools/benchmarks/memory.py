"""Peak memory of a training step and of an evaluation, as reported by Linux.

The peak is the maximum resident memory of a process during a call (VmHWM, which can be reset)
minus the resident memory before it (VmRSS). Unlike a count of tensors it includes the memory that
libraries allocate. Two sources of error are avoided:

- glibc keeps freed memory, so a call may reuse it and seem to need less. With a low
  `M_MMAP_THRESHOLD`, larger blocks return to the system at once. This setting applies to a whole
  process, and earlier allocations leave traces too, so each implementation gets a new process.
- The first call loads code and starts threads, about 10 MiB once per process. It is a warm-up and
  not counted.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.environment import build_environment
from benchmarks.implementations import (
    IMPLEMENTATIONS,
    PROBLEM_SIZES,
    Problem,
    ProblemSize,
)
from benchmarks.timing import torch_num_threads as on_threads

MIB = 2**20
PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD = -3  # from malloc.h of glibc
MMAP_THRESHOLD_BYTES = 64 * 1024  # freed blocks of at least this size return to the system


def measure_peak_mib(
    implementation: str, size: str, *, num_threads: int = 2, timeout_s: float = 60
) -> dict[str, float] | None:
    """Return the peak extra memory in MiB of a training step ("train") and evaluation ("eval").

    It is measured in a new process. Return None if that is impossible: without Linux and glibc, if
    it takes longer than `timeout_s`, or if the process is killed for lack of memory.

    Args:
        implementation: a name from `IMPLEMENTATIONS`.
        size: a name from `PROBLEM_SIZES`.
        num_threads: number of threads of torch.
        timeout_s: time limit in seconds, including the start of the process.
    """
    if not can_measure():
        return None
    try:
        process = subprocess.run(
            [sys.executable, "-m", __name__, implementation, size, str(num_threads)],
            env=build_environment(THP_MEM_ALLOC_ENABLE="0"),  # huge pages would count as 2 MiB
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return None
    if process.returncode < 0:
        return None
    if process.returncode > 0:
        raise RuntimeError(f"memory could not be measured: {process.stderr.strip()[-500:]}")
    peaks: dict[str, float] = json.loads(process.stdout)
    return peaks


def compute_allowed_mib(size: ProblemSize) -> dict[str, float]:
    """Return our memory limit: 5 inputs and 2 codebooks in training, 1.2 inputs in evaluation.

    8 MiB are added to both. Training needs z_q, the gradients of z_q and z_e, the difference of
    z_q and z_e, and the per-step sums of the codebook, plus one of each to spare. Evaluation needs
    z_q.
    """
    input_mib = size.num_vectors * size.code_dim * 4 / MIB
    codebook_mib = size.codebook_size * size.code_dim * 4 / MIB
    return {"train": 5 * input_mib + 2 * codebook_mib + 8, "eval": 1.2 * input_mib + 8}


def can_measure() -> bool:
    """Return whether this system supports `measure_peak_bytes`."""
    if sys.platform != "linux" or not os.access(PROC_CLEAR_REFS, os.W_OK):
        return False
    return hasattr(ctypes.CDLL(None), "mallopt")


def lower_mmap_threshold() -> None:
    """Make freed blocks of 64 KiB and more return to the system, for the rest of the process."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def measure_peak_bytes(fn: Callable[[], object], setup: Callable[[], object] = lambda: None) -> int:
    """Return the peak memory of `fn` in bytes beyond the memory held before it.

    Call `lower_mmap_threshold` early in the process. `fn` is called twice, each time after
    `setup`; the second call is measured.
    """
    setup()
    fn()
    setup()
    PROC_CLEAR_REFS.write_text("5")  # resets the peak to the current memory
    before = _read_status("VmRSS")
    fn()
    return _read_status("VmHWM") - before


def _read_status(field: str) -> int:
    lines = PROC_STATUS.read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(field + ":"))
    return int(kilobytes) * 1024


def _measure_peak_memory(implementation: str, size: str) -> dict[str, float]:
    instance = IMPLEMENTATIONS[implementation](Problem(PROBLEM_SIZES[size]))
    return {
        "train": measure_peak_bytes(instance.train_step, lambda: instance.reset(training=True))
        / MIB,
        "eval": measure_peak_bytes(instance.eval_step, lambda: instance.reset(training=False))
        / MIB,
    }


if __name__ == "__main__":
    lower_mmap_threshold()
    with on_threads(int(sys.argv[3])):
        print(json.dumps(_measure_peak_memory(sys.argv[1], sys.argv[2])))
