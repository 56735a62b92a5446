"""How quickly codes of speech become sound: by a WaveNet, sample by sample, and by convolutions.

Speed does not depend on weights, so the models are untrained. Each way of drawing takes its turn
with the others in one run. Two things are called recomputation, and both stand here: one pass over
all the receptive field for each sample, which is the least that gives the right numbers, and one
pass over the whole of a second for each sample, which is what a sampler without a state does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.jobs.benchmark.table import aligned, short
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads
from vqvideo.likelihoods import AutoregressiveLikelihood
from vqvideo.models import build
from vqvideo.report.machine import as_line, setting
from vqvideo.sampling import method_for, stream_blocks

MODEL, FAST = "audio-25hz-wavenet", "audio-25hz"
SECONDS = 0.25  # of sound that is drawn step by step; 1 for what is quicker


def benchmark_decoding(
    *,
    rounds: int = 5,
    num_threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Time the decoders of speech; one sample at a time, batch 1.

    Args:
        rounds: how often each takes its turn.
        num_threads: of torch; one sample at a time gives more of them nothing to do.
        progress: called with (rounds done, rounds in all).

    Returns:
        "us": microseconds per sample of "whole" (a pass over a second for each sample), "field" (a
        pass over the receptive field for each), "cached", "fused" (None where there is none), and
        "convolutional", the decoder of `audio-25hz`;
        "sample_rate"; "receptive_field" in samples; "weights" of the WaveNet; "options" of it;
        "setting": versions and machine.

    Raises:
        ValueError: no round or no thread.
    """
    for option, number in (("rounds", rounds), ("threads", num_threads)):
        if number < 1:
            raise ValueError(f"{option} must be at least 1, got {number}")
    torch.manual_seed(0)
    slow, fast = build(MODEL), build(FAST)
    likelihood, rate = slow.vqvae.likelihood, int(slow.config.rate)
    assert isinstance(likelihood, AutoregressiveLikelihood)
    prior = likelihood.prior
    assert prior.receptive_field is not None
    field = prior.receptive_field.left + 1
    told = torch.randn(1, likelihood.features, rate)
    codes = torch.randint(fast.vqvae.quantizer.codebook_size, (1, *fast.vqvae.grid_shape((rate,))))
    few = int(SECONDS * rate)

    def over(length: int) -> Timed:
        values = torch.randint(prior.codebook_size, (1, length))
        return Timed(lambda: prior.logits(values, Cond(local=told[:, :, :length])))

    def drawn(method: Any, length: int) -> Timed:
        pieces = told[:, :, :length].split(2048, dim=2)

        def call() -> list[Tensor]:
            conds = (Cond(local=piece) for piece in pieces)
            return list(stream_blocks(prior, (), conds=conds, method=method))

        return Timed(call)

    timed = {"whole": over(rate), "field": over(field), "cached": drawn("cached", few)}
    if method_for(prior) == "fused":
        timed["fused"] = drawn("fused", rate)
    timed["convolutional"] = Timed(lambda: fast.vqvae.decode(codes))
    done = iter(range(1, rounds + 2))
    with threads(num_threads), torch.inference_mode():
        environment = setting("numba")
        ms = median_ms(timed, rounds=rounds, after_round=lambda: progress(next(done), rounds + 1))
    samples = {"whole": 1, "field": 1, "cached": few, "fused": rate, "convolutional": rate}
    return {
        "us": {name: 1000 * ms[name] / n if name in ms else None for name, n in samples.items()},
        "sample_rate": rate,
        "receptive_field": field,
        "weights": sum(weight.numel() for weight in prior.parameters()),
        "options": dict(slow.config.likelihood.options["prior"]),
        "setting": environment,
    }


def decoding_table(found: dict[str, Any]) -> str:
    """What `benchmark_decoding` returned, as text."""
    rate, cached = found["sample_rate"], found["us"]["cached"]
    lines = [["decoder", "us/sample", "of real time", "beside cached"]]
    for name, us in found["us"].items():
        times = None if us is None else 1e6 / (us * rate)
        ratio = None if us is None else cached / us
        lines.append([name, short(us), f"{_few(times)}x", f"{_few(ratio)}x"])
    options = ", ".join(f"{name} {value}" for name, value in found["options"].items())
    about = (
        f"{options}: {found['weights']:,} weights, each sample told the {found['receptive_field']} "
        f"before it, {rate} samples a second"
    )
    return f"{as_line(found['setting'])}\n{about}\n\n{aligned(lines)}"


def _few(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"
