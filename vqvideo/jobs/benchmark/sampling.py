"""How quickly priors draw codes, beside recomputing everything for each code.

A code's time is that of a whole grid drawn by `vqvideo.sampling.generate`, noise and set-up
included, over its codes. Full recomputation is one pass of `logits` over the whole grid for each
code. So that a slow pass cannot flatter the cache, the pass itself stands beside its bare products:
every convolution and linear layer of it called again with the same input, and nothing else. The
fused step stands beside the time that it takes to read once, from cache, the weights that a code
needs: those of H and the head for each code, those of V for each row, those of T for each frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.jobs.benchmark.table import aligned, short
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads, unit
from vqvideo.priors import PRIORS, Prior
from vqvideo.report.machine import as_line, setting
from vqvideo.sampling import generate, method_for

COPIES = 4  # of the weights, to be read


class Size(NamedTuple):
    """A prior to time, and the grid that it draws."""

    prior: str
    grid: tuple[int, ...]
    codebook_size: int
    options: dict[str, int]

    def build(self) -> Prior:
        torch.manual_seed(0)
        rank, options = len(self.grid), self.options
        prior = PRIORS.build(self.prior, dict(options), rank=rank, codebook_size=self.codebook_size)
        return prior.eval()


SIZES = {
    "wavenet": Size("wavenet", (1024,), 512, {"num_layers": 20, "width": 64}),
    "pixelcnn": Size("pixelcnn", (16, 16), 512, {"num_layers": 12, "width": 64}),
    "masked3d": Size("masked3d", (4, 16, 16), 512, {"num_layers": 8, "width": 64}),
    "transformer": Size(
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
    """Time the priors of `SIZES`; returns one row for each prior and batch.

    Args:
        priors: names of `SIZES`; None takes all.
        batches: how many samples at once.
        rounds: how often each takes its turn.
        num_threads: of torch.
        progress: called with (parts done, parts in all).

    Returns:
        Rows with "prior", "grid", "batch", and microseconds "us" per step, that is per code of
        each sample of the batch:
        "full": one pass of `logits`; "bare": its convolutions and linear layers alone;
        "cached", "fused" (None where there is none): `generate`, per code;
        "weights": reading once what a step needs (with numba, for a batch of 1);
        "unit": one matrix product, to carry times between machines;
        "setting": versions and machine.

    Raises:
        ValueError: an unknown prior, no round, no thread or an empty batch.
    """
    names = list(SIZES) if priors is None else list(priors)
    for name in names:
        if name not in SIZES:
            raise ValueError(f"unknown prior {name!r}; known: {', '.join(SIZES)}")
    for option, number in (("rounds", rounds), ("threads", num_threads), ("batch", min(batches))):
        if number < 1:
            raise ValueError(f"{option} must be at least 1, got {number}")
    pairs = list(itertools.product(names, batches))
    parts = itertools.count(1)

    def done() -> None:
        progress(next(parts), len(pairs) * (rounds + 1))

    with threads(num_threads), torch.inference_mode():
        environment = setting("numba")
        rows = [_figures(SIZES[name], batch, rounds, done) for name, batch in pairs]
    return [{**row, "setting": environment} for row in rows]


def _figures(size: Size, batch: int, rounds: int, done: Callable[[], None]) -> dict[str, Any]:
    prior, codes = size.build(), math.prod(size.grid)
    timed = {**_passes(prior, size, batch), "unit": unit()}

    def draw(method: Any) -> Timed:
        return Timed(lambda: generate(prior, size.grid, batch=batch, method=method))

    timed["cached"] = draw("cached")
    if method_for(prior, batch=batch) == "fused":
        timed |= {"fused": draw("fused"), **_readings(prior)}
    ms = median_ms(timed, rounds=rounds, after_round=done)
    us: dict[str, float | None] = {
        "full": 1000 * ms["full"],
        "bare": 1000 * ms["bare"],
        "cached": 1000 * ms["cached"] / codes,
        "fused": None,
        "weights": None,
        "unit": 1000 * ms["unit"],
    }
    if "fused" in ms:
        inner = size.grid[1:]
        row, frame = (inner[-1] if inner else 1), math.prod(inner)
        us["fused"] = 1000 * ms["fused"] / codes
        h, v, t = (min(ms[f"{part}{copy}"] for copy in range(COPIES)) for part in "HVT")
        us["weights"] = 1000 * (h + v / row + t / frame)
    return {"prior": size.prior, "grid": size.grid, "batch": batch, "us": us}


def _passes(prior: Prior, size: Size, batch: int) -> dict[str, Timed]:
    """A pass of `logits`, and the bare products that it consists of."""
    codes = torch.randint(size.codebook_size, (batch, *size.grid))
    calls: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0].clone()))

    layers = [layer for layer in prior.modules() if isinstance(layer, nn.Conv3d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    prior.logits(codes)
    for hook in hooks:
        hook.remove()

    def bare() -> None:
        for layer, x in calls:
            layer(x)

    return {"full": Timed(lambda: prior.logits(codes)), "bare": Timed(bare)}


def _readings(prior: Prior) -> dict[str, Timed]:
    """Reading the weights of H and the head, of V, of T: adding them all up, in several places of
    memory, since some lie badly in the cache.
    """
    from vqvideo.nets.kernels import add_up

    stacks: dict[str, list[Tensor]] = {"H": [], "V": [], "T": []}
    for name, parameter in prior.named_parameters():
        if name.startswith("embedding"):
            continue  # a code reads one row of it
        part = name.split(".")[3] if name.startswith("net.layers") else ""
        stack = {"vertical": "V", "time": "T"}.get(part.split("_")[0], "H")
        stacks[stack].append(parameter.flatten())
    readings = {}
    for stack, parts in stacks.items():
        for copy in range(COPIES):
            array = torch.cat(parts or [torch.zeros(1)]).numpy()
            readings[f"{stack}{copy}"] = Timed(lambda array=array: add_up(array))  # type: ignore[misc]
    return readings


def sampling_table(rows: Sequence[dict[str, Any]]) -> str:
    """What `benchmark_sampling` returned, as text: times in microseconds, and their ratios."""
    heads = ["prior", "grid", "batch", "full", "bare", "full/bare", "cached", "full/cached"]
    heads += ["fused", "full/fused", "weights", "fused/weights", "codes/s", "codes/unit"]
    lines = [heads]
    for row in rows:
        us = row["us"]
        best = us["fused"] or us["cached"]

        def ratio(one: str, other: str, us: dict[str, float | None] = us) -> str:
            a, b = us[one], us[other]
            return "-" if a is None or b is None else f"{short(a / b)}x"

        lines.append(
            [
                row["prior"],
                "x".join(map(str, row["grid"])),
                str(row["batch"]),
                *(short(us["full"]), short(us["bare"]), ratio("full", "bare")),
                *(short(us["cached"]), ratio("full", "cached")),
                *(short(us["fused"]), ratio("full", "fused")),
                *(short(us["weights"]), ratio("fused", "weights")),
                f"{1e6 * row['batch'] / best:.0f}",
                f"{us['unit'] * row['batch'] / best:.0f}",
            ]
        )
    return f"{as_line(rows[0]['setting'])}\n\n{aligned(lines)}"
