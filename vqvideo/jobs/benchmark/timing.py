"""How long calls take, measured so that they can be compared."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

UNIT = (
    16384,
    256,
    1024,
)  # of a product: vectors, their length, entries
AT_LEAST_S = 0.05  # that a round spends on each call
MOST_CALLS = 50  # in one round


class Timed(NamedTuple):
    """What is timed.

    Attributes:
        call: its result is dropped.
        prepare: called before each `call`, and not timed.
    """

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def median_ms(
    timed: Mapping[str, Timed], *, rounds: int, after_round: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Milliseconds of one call of each: the median over all rounds.

    A round takes its turn with each, so that a machine that is busy for a while is busy for all.
    Calls that are soon over are repeated within a round. One round more goes ahead and does not
    count: it loads code, fills caches and tells how often to repeat.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    repeats = dict.fromkeys(timed, 1)
    for number in range(rounds + 1):
        for name, one in timed.items():
            taken = [_seconds(one) for _ in range(repeats[name])]
            if number:
                seconds[name] += taken
            else:
                repeats[name] = max(1, min(MOST_CALLS, int(AT_LEAST_S / max(taken[0], 1e-6))))
        after_round()
    return {name: 1000 * statistics.median(taken) for name, taken in seconds.items()}


def unit() -> Timed:
    """The product that times are counted in."""
    number, length, entries = UNIT
    x, e, out = torch.randn(number, length), torch.randn(entries, length), torch.empty(0)
    return Timed(lambda: torch.mm(x, e.T, out=out))


def unit_ms() -> float:
    """Milliseconds that it takes here and now."""
    return median_ms({"unit": unit()}, rounds=15)["unit"]


def _seconds(timed: Timed) -> float:
    timed.prepare()
    start = time.perf_counter()
    result = timed.call()
    seconds = time.perf_counter() - start
    del result  # what it takes to free it is not timed
    return seconds


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Work on `number` threads of torch, and then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
