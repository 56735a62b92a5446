"""Timing of several calls in turns, so that their times can be compared."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

UNIT_SHAPE = (16384, 256, 1024)  # of the unit product: vectors, code_dim, entries
MIN_ROUND_SECONDS = 0.05  # for each call in a round
MAX_CALLS_PER_ROUND = 50


class TimedCall(NamedTuple):
    """A function to time.

    Attributes:
        fn: the timed function; its result is dropped.
        setup: called before each `fn`, not timed.
    """

    fn: Callable[[], object]
    setup: Callable[[], object] = lambda: None


def measure_median_ms(
    calls: Mapping[str, TimedCall], *, rounds: int, on_round_end: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Return the median time of one call in milliseconds, for each call.

    Each round runs all calls in turn, so that temporary load on the machine affects all of them.
    Short calls are repeated within a round. A warm-up round comes first and is not counted: it
    loads code, fills caches and determines the number of repetitions.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    repeats = dict.fromkeys(calls, 1)
    for round_index in range(rounds + 1):
        for name, timed_call in calls.items():
            times = [_time_call(timed_call) for _ in range(repeats[name])]
            if round_index:
                seconds[name] += times
            else:
                repeats[name] = max(
                    1, min(MAX_CALLS_PER_ROUND, int(MIN_ROUND_SECONDS / max(times[0], 1e-6)))
                )
        on_round_end()
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def build_unit_call() -> TimedCall:
    """Return the matrix product that serves as the unit of time."""
    num_vectors, code_dim, codebook_size = UNIT_SHAPE
    x = torch.randn(num_vectors, code_dim)
    e, out = torch.randn(codebook_size, code_dim), torch.empty(0)
    return TimedCall(lambda: torch.mm(x, e.T, out=out))


def measure_unit_ms() -> float:
    """Return the time of the unit product on this machine in milliseconds."""
    return measure_median_ms({"unit": build_unit_call()}, rounds=15)["unit"]


def _time_call(timed_call: TimedCall) -> float:
    timed_call.setup()
    start = time.perf_counter()
    result = timed_call.fn()
    seconds = time.perf_counter() - start
    del result  # freeing it is not timed
    return seconds


@contextlib.contextmanager
def torch_num_threads(num_threads: int) -> Iterator[None]:
    """Set the number of threads of torch within the context, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
