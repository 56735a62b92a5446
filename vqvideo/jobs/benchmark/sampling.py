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

from vqvideo.jobs.benchmark.quantizer import setting
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads
from vqvideo.priors import PRIORS, Prior
from vqvideo.sampling import generate, method_for

UNIT = (16384, 256, 1024)  # vectors, their length, entries: one product is the unit of time


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
        environment = setting()
        rows = [_figures(SIZES[name], batch, rounds, done) for name, batch in pairs]
    return [{**row, "setting": environment} for row in rows]


def _figures(size: Size, batch: int, rounds: int, done: Callable[[], None]) -> dict[str, Any]:
    prior, codes = size.build(), math.prod(size.grid)
    timed = {**_passes(prior, size, batch), "unit": _unit()}

    def draw(method: Any) -> Timed:
        return Timed(lambda: generate(prior, size.grid, batch=batch, method=method))

    timed["cached"] = draw("cached")
    if method_for(prior, batch=batch) == "fused":
        timed |= {"fused": draw("fused"), **_readings(prior)}
    us = {name: 1000 * ms for name, ms in median_ms(timed, rounds=rounds, after_round=done).items()}
    for name in ("cached", "fused"):
        us[name] = us[name] / codes if name in us else None
    inner = size.grid[1:]
    us["weights"] = None
    if us["fused"] is not None:
        row, frame = (inner[-1] if inner else 1), math.prod(inner)
        us["weights"] = us.pop("read_h") + us.pop("read_v") / row + us.pop("read_t") / frame
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


def _unit() -> Timed:
    number, length, entries = UNIT
    x, e, out = torch.randn(number, length), torch.randn(entries, length), torch.empty(0)
    return Timed(lambda: torch.mm(x, e.T, out=out))


def _readings(prior: Prior) -> dict[str, Timed]:
    """Reading the weights of H and the head, of V, of T: adding them all up."""
    from vqvideo.nets.fused import add_up

    stacks: dict[str, list[Tensor]] = {"read_h": [], "read_v": [], "read_t": []}
    for name, parameter in prior.named_parameters():
        if name.startswith("embedding"):
            continue  # a code reads one row of it
        part = name.split(".")[3] if name.startswith("net.layers") else ""
        stacks[{"vertical": "read_v", "time": "read_t"}.get(part.split("_")[0], "read_h")].append(
            parameter.flatten()
        )
    arrays = {name: torch.cat(parts or [torch.zeros(1)]).numpy() for name, parts in stacks.items()}
    return {name: Timed(lambda array=array: add_up(array)) for name, array in arrays.items()}  # type: ignore[misc]
