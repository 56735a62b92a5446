"""`tools/benchmark.py quantizer`: our `ema` quantizer against its peer and a bare matrix product.

A search for the nearest of K entries cannot be much faster than the product of all vectors with
all entries, so that product is the reference. Everything is timed in one run, in turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.implementations import (
    PROBLEM_SIZES,
    Problem,
    VectorQuantizePyTorch,
    VQVideoEMA,
    has_fast_path,
    import_peer,
    override_codes,
    select_search_path,
)
from benchmarks.memory import compute_allowed_mib, measure_peak_mib
from benchmarks.timing import TimedCall, measure_median_ms, torch_num_threads
from vqvideo.metrics import code_histogram
from vqvideo.quantizers import nearest_codes
from vqvideo.report.environment import collect_environment

DISTANCES_PER_CHUNK = 2**22  # in float64: 32 MiB


def benchmark_quantizer(
    *,
    sizes: Sequence[str] | None = None,
    rounds: int = 7,
    num_threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Time and check both quantizers; return one row of metrics for each size.

    Args:
        sizes: names in `PROBLEM_SIZES`; None takes all.
        rounds: number of timing rounds.
        num_threads: number of threads of torch.
        progress: called with (parts done, total parts).

    Returns:
        For each size its name and numbers, and
        "ms": median time of one call. "product" writes to existing memory, "product_new" to new
        memory. "plain" and "fast" are ours on that search path; "fast" is missing if the machine
        does not support it. "statistics" is the cost of the moving average in a training step: the
        histogram, which evaluation computes too, plus what training adds to our forward without
        the search ("rest_train" minus "rest_eval");
        "wrong_codes": number of codes that differ from a search in float64;
        "peak_mib": extra memory of "ours" and "peer" for a training step and for an evaluation,
        or None if not measured (see `measure_peak_mib`);
        "allowed_mib": memory limit for ours;
        "environment": versions and machine.

    Raises:
        ImportError: the peer is not installed.
        ValueError: unknown size, or rounds or threads below 1.
    """
    names = list(PROBLEM_SIZES) if sizes is None else list(sizes)
    for name in names:
        if name not in PROBLEM_SIZES:
            raise ValueError(f"unknown size {name!r}; known: {', '.join(PROBLEM_SIZES)}")
    for option, value in (("rounds", rounds), ("threads", num_threads)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    import_peer()
    parts = itertools.count(1)

    def advance() -> None:
        progress(next(parts), len(names) * (rounds + 4))

    with torch_num_threads(num_threads):
        environment = collect_environment("vector-quantize-pytorch")
        rows = [_benchmark_size(name, rounds, advance) for name in names]
    return [{**row, "environment": environment} for row in rows]


def _benchmark_size(name: str, rounds: int, advance: Callable[[], None]) -> dict[str, Any]:
    size = PROBLEM_SIZES[name]
    peaks = {}
    for implementation in ("ours", "peer"):
        peaks[implementation] = measure_peak_mib(
            implementation, name, num_threads=torch.get_num_threads()
        )
        advance()
    problem = Problem(size)
    ours, peer = VQVideoEMA(problem), VectorQuantizePyTorch(problem)
    exact = compute_exact_codes(problem.vectors, problem.codebook)
    mismatches = _count_mismatches_by_path(ours, peer, exact)
    advance()
    ms = measure_median_ms(
        _build_timed_calls(problem, ours, peer, exact), rounds=rounds, on_round_end=advance
    )
    ms["statistics"] = ms["histogram"] + max(ms["rest_train"] - ms["rest_eval"], 0)
    return {
        "size": name,
        **size._asdict(),
        "ms": ms,
        "wrong_codes": mismatches,
        "peak_mib": peaks,
        "allowed_mib": compute_allowed_mib(size),
    }


def _list_search_paths() -> dict[str, bool]:
    """Return the search paths available on this machine: name to whether it is the fast one."""
    return {"plain": False, "fast": True} if has_fast_path() else {"plain": False}


def _build_timed_calls(
    problem: Problem, ours: VQVideoEMA, peer: VectorQuantizePyTorch, codes: Tensor
) -> dict[str, TimedCall]:
    vectors, entries = problem.vectors, problem.codebook
    scores = torch.empty(len(vectors), len(entries))
    calls = {
        "product": TimedCall(lambda: torch.mm(vectors, entries.T, out=scores)),
        "product_new": TimedCall(lambda: vectors @ entries.T),
        "train_peer": TimedCall(peer.train_step, lambda: peer.reset(training=True)),
        "eval_peer": TimedCall(peer.eval_step, lambda: peer.reset(training=False)),
        "histogram": TimedCall(lambda: code_histogram(codes, len(entries))),
    }
    for training, mode in ((True, "train"), (False, "eval")):
        calls[f"rest_{mode}"] = _build_call_without_search(ours, codes, training)
    for path, fast in _list_search_paths().items():
        calls |= {
            f"search_{path}": _build_call_on_path(lambda: nearest_codes(vectors, entries), fast),
            f"train_{path}": _build_call_on_path(
                ours.train_step, fast, lambda: ours.reset(training=True)
            ),
            f"eval_{path}": _build_call_on_path(
                ours.eval_step, fast, lambda: ours.reset(training=False)
            ),
        }
    return calls


def _build_call_on_path(
    fn: Callable[[], object], fast: bool, setup: Callable[[], object] = lambda: None
) -> TimedCall:
    def run() -> object:
        with select_search_path(fast=fast):
            return fn()

    return TimedCall(run, setup)


def _build_call_without_search(ours: VQVideoEMA, codes: Tensor, training: bool) -> TimedCall:
    def run() -> object:
        with override_codes(codes):
            return ours.eval_step()  # updates the codebook in training mode

    return TimedCall(run, lambda: ours.reset(training=training))


# -- correctness --------------------------------------------------------------------------------


def compute_exact_codes(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return the nearest entry of each vector by distances in float64: int64 `[n]`."""
    entries_f64 = entries.double()
    chunk_size = max(1, DISTANCES_PER_CHUNK // len(entries))
    chunks = vectors.split(chunk_size)
    return torch.cat([torch.cdist(chunk.double(), entries_f64).argmin(dim=1) for chunk in chunks])


def _count_mismatches_by_path(
    ours: VQVideoEMA, peer: VectorQuantizePyTorch, exact: Tensor
) -> dict[str, int]:
    """Return the number of codes that differ from `exact`, for each of our paths and the peer."""
    mismatches = {}
    for path, fast in _list_search_paths().items():
        ours.reset(training=False)
        with select_search_path(fast=fast):
            mismatches[path] = count_mismatches(ours.compute_codes(), exact)
    peer.reset(training=False)
    mismatches["peer"] = count_mismatches(peer.compute_codes(), exact)
    return mismatches


def count_mismatches(codes: Tensor, exact: Tensor) -> int:
    """Return the number of codes that differ from `exact`."""
    return int((codes != exact).sum())
