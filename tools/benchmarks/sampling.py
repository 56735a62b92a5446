"""Sampling speed of priors, compared with full recomputation for each code.

The time per code is the time of `vqvideo.sampling.generate` for a whole grid, noise and setup
included, divided by the number of codes. Full recomputation is one pass of `logits` over the grid
for each code. So that a slow pass cannot flatter the cache, the pass is compared with its bare
products: all its convolutions and linear layers called with the same inputs, and nothing else. The
fused step is compared with the time to read, from cache, the weights that a code needs: the weights
of H and the head for each code, of V for each row, of T for each frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.table import align_columns, format_number
from benchmarks.timing import (
    TimedCall,
    build_unit_call,
    measure_median_ms,
    torch_num_threads,
)
from vqvideo.priors import PRIORS, Prior
from vqvideo.report.environment import collect_environment, format_environment
from vqvideo.sampling import generate, select_method

NUM_WEIGHT_COPIES = 4  # read from several places in memory


class SamplingCase(NamedTuple):
    """A prior to time and the grid to sample."""

    prior: str
    grid: tuple[int, ...]
    codebook_size: int
    options: dict[str, int]

    def build(self) -> Prior:
        """Build the prior in evaluation mode."""
        torch.manual_seed(0)
        rank, options = len(self.grid), self.options
        prior = PRIORS.build(self.prior, dict(options), rank=rank, codebook_size=self.codebook_size)
        return prior.eval()


SAMPLING_CASES = {
    "wavenet": SamplingCase("wavenet", (1024,), 512, {"num_layers": 20, "width": 64}),
    "pixelcnn": SamplingCase("pixelcnn", (16, 16), 512, {"num_layers": 12, "width": 64}),
    "masked3d": SamplingCase("masked3d", (4, 16, 16), 512, {"num_layers": 8, "width": 64}),
    "transformer": SamplingCase(
        "transformer", (4, 16, 16), 2048, {"num_layers": 4, "width": 144, "num_heads": 4}
    ),
}


def benchmark_sampling(
    *,
    priors: Sequence[str] | None = None,
    batches: Sequence[int] = (1, 16),
    rounds: int = 5,
    num_threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Time the priors of `SAMPLING_CASES`; return one row for each prior and batch size.

    Args:
        priors: names from `SAMPLING_CASES`; None takes all.
        batches: batch sizes.
        rounds: number of timing rounds.
        num_threads: number of threads of torch.
        progress: called with (parts done, total parts).

    Returns:
        Rows with "prior", "grid", "batch", and microseconds "us" per step, i.e. per code of
        all samples in the batch:
        "full": one pass of `logits`; "bare": its convolutions and linear layers only;
        "cached", "fused" (None if unsupported): `generate`, per code;
        "weights": reading the weights that a step needs once (with numba, for a batch of 1);
        "unit": one matrix product, to compare times between machines;
        "environment": versions and machine.

    Raises:
        ValueError: unknown prior, or rounds, threads or a batch below 1.
    """
    names = list(SAMPLING_CASES) if priors is None else list(priors)
    for name in names:
        if name not in SAMPLING_CASES:
            raise ValueError(f"unknown prior {name!r}; known: {', '.join(SAMPLING_CASES)}")
    for option, value in (("rounds", rounds), ("threads", num_threads), ("batch", min(batches))):
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    pairs = list(itertools.product(names, batches))
    parts = itertools.count(1)

    def advance() -> None:
        progress(next(parts), len(pairs) * (rounds + 1))

    with torch_num_threads(num_threads), torch.inference_mode():
        environment = collect_environment("numba")
        rows = [
            _benchmark_case(SAMPLING_CASES[name], batch, rounds, advance) for name, batch in pairs
        ]
    return [{**row, "environment": environment} for row in rows]


def _benchmark_case(
    case: SamplingCase, batch: int, rounds: int, advance: Callable[[], None]
) -> dict[str, Any]:
    prior, num_codes = case.build(), math.prod(case.grid)
    calls = {**_build_pass_calls(prior, case, batch), "unit": build_unit_call()}

    def build_sampling_call(method: Any) -> TimedCall:
        return TimedCall(lambda: generate(prior, case.grid, batch=batch, method=method))

    calls["cached"] = build_sampling_call("cached")
    if select_method(prior, batch=batch) == "fused":
        calls |= {"fused": build_sampling_call("fused"), **_build_weight_reads(prior)}
    ms = measure_median_ms(calls, rounds=rounds, on_round_end=advance)
    us: dict[str, float | None] = {
        "full": 1000 * ms["full"],
        "bare": 1000 * ms["bare"],
        "cached": 1000 * ms["cached"] / num_codes,
        "fused": None,
        "weights": None,
        "unit": 1000 * ms["unit"],
    }
    if "fused" in ms:
        inner = case.grid[1:]
        row, frame = (inner[-1] if inner else 1), math.prod(inner)
        us["fused"] = 1000 * ms["fused"] / num_codes
        h, v, t = (min(ms[f"{part}{copy}"] for copy in range(NUM_WEIGHT_COPIES)) for part in "HVT")
        us["weights"] = 1000 * (h + v / row + t / frame)
    return {"prior": case.prior, "grid": case.grid, "batch": batch, "us": us}


def _build_pass_calls(prior: Prior, case: SamplingCase, batch: int) -> dict[str, TimedCall]:
    """Return a pass of `logits`, and the bare products that it consists of, as timed calls."""
    codes = torch.randint(case.codebook_size, (batch, *case.grid))
    calls: list[tuple[nn.Module, Tensor]] = []

    def record_call(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0].clone()))

    layers = [layer for layer in prior.modules() if isinstance(layer, nn.Conv3d | nn.Linear)]
    hooks = [layer.register_forward_hook(record_call) for layer in layers]
    prior.logits(codes)
    for hook in hooks:
        hook.remove()

    def run_layers() -> None:
        for layer, x in calls:
            layer(x)

    return {"full": TimedCall(lambda: prior.logits(codes)), "bare": TimedCall(run_layers)}


def _build_weight_reads(prior: Prior) -> dict[str, TimedCall]:
    """Return timed reads of the weights of H and the head, of V, and of T.

    A read sums all weights. It is repeated for copies at several memory locations, since some are
    placed unfavorably in the cache.
    """
    import numba
    import numpy as np

    from vqvideo.incremental.kernels import NJIT_OPTIONS

    @numba.njit(**{**NJIT_OPTIONS, "cache": False})
    def sum_array(weights):  # type: ignore[no-untyped-def]
        """Return the sum of a flat array: about the fastest way to read all of it."""
        total = np.float32(0)
        for i in range(weights.shape[0]):
            total += weights[i]
        return total

    stacks: dict[str, list[Tensor]] = {"H": [], "V": [], "T": []}
    for name, parameter in prior.named_parameters():
        if name.startswith("embedding"):
            continue  # a code reads one row of it
        part = name.split(".")[3] if name.startswith("net.layers") else ""
        stack = {"vertical": "V", "time": "T"}.get(part.split("_")[0], "H")
        stacks[stack].append(parameter.flatten())
    reads = {}
    for stack, parts in stacks.items():
        for copy in range(NUM_WEIGHT_COPIES):
            array = torch.cat(parts or [torch.zeros(1)]).numpy()
            reads[f"{stack}{copy}"] = TimedCall(lambda array=array: sum_array(array))  # type: ignore[misc]
    return reads


def format_sampling_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the results of `benchmark_sampling`: times in microseconds, and their ratios."""
    header = ["prior", "grid", "batch", "full", "bare", "full/bare", "cached", "full/cached"]
    header += ["fused", "full/fused", "weights", "fused/weights", "codes/s", "codes/unit"]
    lines = [header]
    for row in rows:
        us = row["us"]
        best = us["fused"] or us["cached"]

        def format_ratio(one: str, other: str, us: dict[str, float | None] = us) -> str:
            a, b = us[one], us[other]
            return "-" if a is None or b is None else f"{format_number(a / b)}x"

        lines.append(
            [
                row["prior"],
                "x".join(map(str, row["grid"])),
                str(row["batch"]),
                *(
                    format_number(us["full"]),
                    format_number(us["bare"]),
                    format_ratio("full", "bare"),
                ),
                *(format_number(us["cached"]), format_ratio("full", "cached")),
                *(format_number(us["fused"]), format_ratio("full", "fused")),
                *(format_number(us["weights"]), format_ratio("fused", "weights")),
                f"{1e6 * row['batch'] / best:.0f}",
                f"{us['unit'] * row['batch'] / best:.0f}",
            ]
        )
    return f"{format_environment(rows[0]['environment'])}\n\n{align_columns(lines)}"
