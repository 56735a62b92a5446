"""`vqvideo benchmark quantizer`: our `ema` quantizer beside its peer and beside a bare product.

No search for the nearest of K entries can be much quicker than the product of all vectors with
all entries, so that is the measure of a search. Everything is timed in one run, in turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vqvideo.jobs.benchmark.contenders import (
    SIZES,
    Ours,
    Peer,
    Problem,
    given_codes,
    has_fast_path,
    on_path,
    peer_class,
)
from vqvideo.jobs.benchmark.memory import allowed_mib, peak_mib
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads
from vqvideo.metrics import code_histogram
from vqvideo.quantizers import nearest_codes
from vqvideo.report.machine import setting

DISTANCES_AT_ONCE = 2**22  # in float64: 32 MiB


def benchmark_quantizer(
    *,
    sizes: Sequence[str] | None = None,
    rounds: int = 7,
    num_threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Measure; one row of figures for each size, which `table` makes readable.

    Args:
        sizes: names in `SIZES`; None takes all.
        rounds: how often each takes its turn.
        num_threads: of torch.
        progress: called with (parts done, parts in all).

    Returns:
        For each size its name and numbers, and
        "ms": medians of one call each. "product" writes to memory that is there already,
        "product_new" to new memory. "plain" and "fast" are ours on the path of that name, "fast"
        being there only where the machine takes it. "statistics" is what the moving average costs a
        training step: the histogram, which evaluation takes too, and what training adds to our
        forward without its search ("rest_train" less "rest_eval");
        "wrong_codes": how many codes are not those of a search in float64;
        "peak_mib": extra memory of "ours" and "peer" for a training step and for an evaluation,
        or None where it was not measured (see `peak_mib`);
        "allowed_mib": what ours is held to;
        "setting": versions and machine.

    Raises:
        ImportError: the peer is not installed.
        ValueError: an unknown size, no round or no thread.
    """
    names = list(SIZES) if sizes is None else list(sizes)
    for name in names:
        if name not in SIZES:
            raise ValueError(f"unknown size {name!r}; known: {', '.join(SIZES)}")
    for option, number in (("rounds", rounds), ("threads", num_threads)):
        if number < 1:
            raise ValueError(f"{option} must be at least 1, got {number}")
    peer_class()
    parts = itertools.count(1)

    def done() -> None:
        progress(next(parts), len(names) * (rounds + 4))

    with threads(num_threads):
        environment = setting("vector-quantize-pytorch")
        rows = [_figures(name, rounds, done) for name in names]
    return [{**row, "setting": environment} for row in rows]


def _figures(name: str, rounds: int, done: Callable[[], None]) -> dict[str, Any]:
    size = SIZES[name]
    peaks = {}
    for contender in ("ours", "peer"):
        peaks[contender] = peak_mib(contender, name, threads=torch.get_num_threads())
        done()
    problem = Problem(size)
    ours, peer = Ours(problem), Peer(problem)
    exact = exact_codes(problem.vectors, problem.codebook)
    wrong = _wrong_codes(ours, peer, exact)
    done()
    ms = median_ms(_timed(problem, ours, peer, exact), rounds=rounds, after_round=done)
    ms["statistics"] = ms["histogram"] + max(ms["rest_train"] - ms["rest_eval"], 0)
    return {
        "size": name,
        **size._asdict(),
        "ms": ms,
        "wrong_codes": wrong,
        "peak_mib": peaks,
        "allowed_mib": allowed_mib(size),
    }


def _paths() -> dict[str, bool]:
    """Names of the paths our search has on this machine, and whether each is the fast one."""
    return {"plain": False, "fast": True} if has_fast_path() else {"plain": False}


def _timed(problem: Problem, ours: Ours, peer: Peer, codes: Tensor) -> dict[str, Timed]:
    vectors, entries = problem.vectors, problem.codebook
    scores = torch.empty(len(vectors), len(entries))
    timed = {
        "product": Timed(lambda: torch.mm(vectors, entries.T, out=scores)),
        "product_new": Timed(lambda: vectors @ entries.T),
        "train_peer": Timed(peer.step, lambda: peer.prepare(training=True)),
        "eval_peer": Timed(peer.lookup, lambda: peer.prepare(training=False)),
        "histogram": Timed(lambda: code_histogram(codes, len(entries))),
    }
    for training, mode in ((True, "train"), (False, "eval")):
        timed[f"rest_{mode}"] = _without_search(ours, codes, training)
    for path, fast in _paths().items():
        timed |= {
            f"search_{path}": _on_path(lambda: nearest_codes(vectors, entries), fast),
            f"train_{path}": _on_path(ours.step, fast, lambda: ours.prepare(training=True)),
            f"eval_{path}": _on_path(ours.lookup, fast, lambda: ours.prepare(training=False)),
        }
    return timed


def _on_path(
    call: Callable[[], object], fast: bool, prepare: Callable[[], object] = lambda: None
) -> Timed:
    def run() -> object:
        with on_path(fast=fast):
            return call()

    return Timed(run, prepare)


def _without_search(ours: Ours, codes: Tensor, training: bool) -> Timed:
    def run() -> object:
        with given_codes(codes):
            return ours.lookup()  # which moves the codebook in training mode

    return Timed(run, lambda: ours.prepare(training=training))


# -- are the codes right ------------------------------------------------------------------------


def exact_codes(vectors: Tensor, entries: Tensor) -> Tensor:
    """The nearest entry of each vector by distances in float64: int64 `[n]`."""
    wide = entries.double()
    rows = max(1, DISTANCES_AT_ONCE // len(entries))
    chunks = vectors.split(rows)
    return torch.cat([torch.cdist(chunk.double(), wide).argmin(dim=1) for chunk in chunks])


def _wrong_codes(ours: Ours, peer: Peer, exact: Tensor) -> dict[str, int]:
    """How many codes differ from `exact`, for each path of ours and for the peer."""
    wrong = {}
    for path, fast in _paths().items():
        ours.prepare(training=False)
        with on_path(fast=fast):
            wrong[path] = count_wrong(ours.codes(), exact)
    peer.prepare(training=False)
    wrong["peer"] = count_wrong(peer.codes(), exact)
    return wrong


def count_wrong(codes: Tensor, exact: Tensor) -> int:
    """How many of `codes` are not those of `exact`."""
    return int((codes != exact).sum())


# -- on what it was measured --------------------------------------------------------------------
