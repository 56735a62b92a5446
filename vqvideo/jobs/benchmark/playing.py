"""How long the next frame takes a model that one walks through, as `vqvideo play` asks for it.

The ways of drawing take turns, some frames each, so that a machine that is busy for a while is busy
for all. Frames follow nothing, told actions at random: what they show changes no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from vqvideo.generator import Generator
from vqvideo.jobs.benchmark.table import aligned
from vqvideo.jobs.benchmark.timing import threads, unit_ms
from vqvideo.jobs.model import open_model
from vqvideo.report.machine import as_line, setting
from vqvideo.sampling import method_for

TURN = 20  # code frames: in a shorter turn, weights would mostly be read from far memory
LEFT_OUT = 10  # code frames at the start: the first compiles, those after it have a shorter past
TWENTIETHS = {"p5": 0, "median": 9, "p95": 18}  # of `statistics.quantiles(n=20)`


def benchmark_playing(
    *,
    model: str = "maze",
    num_frames: int = 100,
    num_threads: int = 2,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Time one frame after the other, on the processor, in each way that codes can be drawn.

    Args:
        model: of video, with a prior that goes on without end and is told numbered actions or
            nothing; see `open_model`.
        num_frames: code frames that are timed, at least 20.
        num_threads: of torch.
        seed: of the actions and of all that is drawn.
        progress: called with (code frames done, all).

    Returns:
        "ms": of "fused" (None where there is none) and "cached", milliseconds of one frame: "p5",
        "median" and "p95"; "unit_ms", milliseconds of a product of 16,384 x 256 by 256 x 1,024, to
        carry times between machines; "rate", frames per second of the recordings; "model",
        "num_frames", and "setting": versions and machine.

    Raises:
        ValueError: too few frames or threads, or another kind of model.
    """
    if num_frames < 20:
        raise ValueError(f"num_frames must be at least 20, of which 5 % is one; got {num_frames}")
    if num_threads < 1:
        raise ValueError(f"threads must be at least 1, got {num_threads}")
    generator = open_model(model, "cpu")
    prior = generator.prior
    if prior is None or generator.vqvae.rank != 3:
        raise ValueError(f"{model} has no prior over the codes of video, so nothing can be played")
    if set(prior.cond.takes) - {"actions"} or prior.cond.action_dim:
        raise ValueError(
            f"only a prior that is told numbered actions or nothing can be played; that of {model} "
            f"is told {', '.join(prior.cond.takes)}"
        )
    methods = ["fused", "cached"] if method_for(prior) == "fused" else ["cached"]
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    with threads(num_threads):
        environment = setting("numba")
        steps = {method: _steps(generator, method, seed) for method in methods}  # type: ignore[arg-type]
        for step in steps.values():
            list(islice(step, LEFT_OUT))
        for done in range(0, num_frames, TURN):
            for method, step in steps.items():
                turn = min(TURN, num_frames - done)
                seconds[method] += [_seconds(step) for _ in range(turn)]
            progress(done + turn, num_frames)
        unit = unit_ms()
    each = generator.vqvae.downsampling[0]
    return {
        "ms": {
            method: _spread([1000 * value / each for value in seconds[method]])
            if method in seconds
            else None
            for method in ("fused", "cached")
        },
        "unit_ms": unit,
        "rate": generator.config.rate,
        "model": model,
        "num_frames": num_frames,
        "setting": environment,
    }


def playing_table(found: dict[str, Any]) -> str:
    """What `benchmark_playing` returned, as text."""
    heads = ["drawn", "ms a frame, median", "5 %", "95 %", "units, median"]
    lines = [[*heads, "frames/s, median", "95 %", "of real"]]
    for method, ms in found["ms"].items():
        if ms is None:
            lines.append([method, *["-"] * 7])
            continue
        per_second = {name: 1000 / value for name, value in ms.items()}
        times = [f"{ms[name]:.1f}" for name in ("median", "p5", "p95")]
        rates = [f"{per_second[name]:.1f}" for name in ("median", "p95")]
        real = "-" if found["rate"] is None else f"{per_second['median'] / found['rate']:.2f}x"
        lines.append([method, *times, f"{ms['median'] / found['unit_ms']:.3f}", *rates, real])
    about = (
        f"{found['model']}: {found['num_frames']} code frames, the first {LEFT_OUT} left out; "
        f"recordings have {found['rate']} frames/s; a unit took {found['unit_ms']:.1f} ms"
    )
    return f"{as_line(found['setting'])}\n{about}\n\n{aligned(lines)}"


def _steps(
    generator: Generator, method: Literal["fused", "cached"], seed: int
) -> Iterator[list[Tensor]]:
    """One code frame after the other, as the data frames that it gives."""
    assert generator.prior is not None
    number, each = generator.prior.cond.num_actions, generator.vqvae.downsampling[0]
    draw = torch.Generator().manual_seed(seed)

    def told() -> Iterator[Tensor]:
        while True:
            yield torch.randint(number, (1,), generator=draw)

    frames = generator.stream(seed=seed, method=method, actions=told() if number else None)
    while True:
        yield list(islice(frames, each))


def _seconds(steps: Iterator[object]) -> float:
    start = time.perf_counter()
    next(steps)
    return time.perf_counter() - start


def _spread(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {name: cuts[place] for name, place in TWENTIETHS.items()}
