"""Time per frame of an interactive model, generated as in `vqvideo play`.

The sampling methods are timed in turns of a few frames each, so that temporary load on the machine
affects all of them. Frames are generated from scratch with random actions, since their content
does not affect the time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.table import align_columns
from benchmarks.timing import measure_unit_ms, torch_num_threads
from vqvideo.commands.model import load_model
from vqvideo.generator import Generator
from vqvideo.report.environment import collect_environment, format_environment
from vqvideo.sampling import select_method

FRAMES_PER_TURN = 20  # code frames; in shorter turns the weights would mostly not be cached
NUM_WARMUP_FRAMES = 10  # code frames; the first one compiles, and the context is still growing
QUANTILE_INDICES = {"p5": 0, "median": 9, "p95": 18}  # of `statistics.quantiles(n=20)`


def benchmark_playing(
    *,
    model: str = "maze",
    num_frames: int = 100,
    num_threads: int = 2,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Time frame by frame generation on the CPU, with each supported sampling method.

    Args:
        model: a video model whose prior can be streamed, unconditional or conditioned on discrete
            actions; see `load_model`.
        num_frames: number of timed code frames, at least 20.
        num_threads: number of threads of torch.
        seed: seed of the actions and of sampling.
        progress: called with (code frames done, total code frames).

    Returns:
        "ms": for "fused" (None if unsupported) and "cached", milliseconds per frame: "p5",
        "median" and "p95"; "unit_ms", milliseconds of a product of 16,384 x 256 by 256 x 1,024, to
        compare times between machines; "rate", frames per second of the recordings; "model",
        "num_frames", and "environment": versions and machine.

    Raises:
        ValueError: too few frames or threads, or an unsupported model.
    """
    if num_frames < 20:
        raise ValueError(f"num_frames must be at least 20 for 5 % quantiles, got {num_frames}")
    if num_threads < 1:
        raise ValueError(f"threads must be at least 1, got {num_threads}")
    generator = load_model(model, "cpu")
    prior = generator.prior
    if prior is None or generator.vqvae.rank != 3:
        raise ValueError(f"{model} has no prior over the codes of video, so it cannot be played")
    if set(prior.cond.keys) - {"actions"} or prior.cond.action_dim:
        raise ValueError(
            f"the prior must be unconditional or conditioned on discrete actions; the prior of "
            f"{model} is conditioned on {', '.join(prior.cond.keys)}"
        )
    methods = ["fused", "cached"] if select_method(prior) == "fused" else ["cached"]
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    with torch_num_threads(num_threads):
        environment = collect_environment("numba")
        iterators = {method: _iterate_frames(generator, method, seed) for method in methods}  # type: ignore[arg-type]
        for iterator in iterators.values():
            list(islice(iterator, NUM_WARMUP_FRAMES))
        for done in range(0, num_frames, FRAMES_PER_TURN):
            for method, iterator in iterators.items():
                turn = min(FRAMES_PER_TURN, num_frames - done)
                seconds[method] += [_time_next(iterator) for _ in range(turn)]
            progress(done + turn, num_frames)
        unit_ms = measure_unit_ms()
    downsampling = generator.vqvae.downsampling[0]
    return {
        "ms": {
            method: _compute_percentiles([1000 * s / downsampling for s in seconds[method]])
            if method in seconds
            else None
            for method in ("fused", "cached")
        },
        "unit_ms": unit_ms,
        "rate": generator.config.rate,
        "model": model,
        "num_frames": num_frames,
        "environment": environment,
    }


def format_playing_table(results: dict[str, Any]) -> str:
    """Format the results of `benchmark_playing` as text."""
    header = ["sampling", "ms/frame, median", "5 %", "95 %", "units, median"]
    lines = [[*header, "frames/s, median", "95 %", "x real time"]]
    for method, ms in results["ms"].items():
        if ms is None:
            lines.append([method, *["-"] * 7])
            continue
        per_second = {name: 1000 / value for name, value in ms.items()}
        times = [f"{ms[name]:.1f}" for name in ("median", "p5", "p95")]
        rates = [f"{per_second[name]:.1f}" for name in ("median", "p95")]
        real = "-" if results["rate"] is None else f"{per_second['median'] / results['rate']:.2f}x"
        lines.append([method, *times, f"{ms['median'] / results['unit_ms']:.3f}", *rates, real])
    description = (
        f"{results['model']}: {results['num_frames']} code frames after {NUM_WARMUP_FRAMES} "
        f"warm-up frames; recordings have {results['rate']} frames/s; "
        f"one unit took {results['unit_ms']:.1f} ms"
    )
    return f"{format_environment(results['environment'])}\n{description}\n\n{align_columns(lines)}"


def _iterate_frames(
    generator: Generator, method: Literal["fused", "cached"], seed: int
) -> Iterator[list[Tensor]]:
    """Yield the data frames of one code frame after the other, endlessly."""
    assert generator.prior is not None
    num_actions, downsampling = generator.prior.cond.num_actions, generator.vqvae.downsampling[0]
    rng = torch.Generator().manual_seed(seed)

    def sample_actions() -> Iterator[Tensor]:
        while True:
            yield torch.randint(num_actions, (1,), generator=rng)

    frames = generator.stream(
        seed=seed, method=method, actions=sample_actions() if num_actions else None
    )
    while True:
        yield list(islice(frames, downsampling))


def _time_next(iterator: Iterator[object]) -> float:
    start = time.perf_counter()
    next(iterator)
    return time.perf_counter() - start


def _compute_percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {name: cuts[index] for name, index in QUANTILE_INDICES.items()}
