"""Speed of speech decoding by a WaveNet, sample by sample, and by a convolutional decoder.

Speed does not depend on weights, so the models are untrained. All methods are timed in turns in one
run. Two kinds of recomputation are measured: one pass over the receptive field for each sample,
the minimum for correct results, and one pass over a full second for each sample, as a sampler
without a state does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.table import align_columns, format_number
from benchmarks.timing import TimedCall, measure_median_ms, torch_num_threads
from vqvideo.cond import Cond
from vqvideo.likelihoods import AutoregressiveLikelihood
from vqvideo.models import build
from vqvideo.report.environment import collect_environment, format_environment
from vqvideo.sampling import select_method, stream_chunks

WAVENET_MODEL, CONV_MODEL = "audio-25hz-wavenet", "audio-25hz"
STEPWISE_SECONDS = 0.25  # duration for cached sampling; faster methods decode 1 second


def benchmark_decoding(
    *,
    rounds: int = 5,
    num_threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Time the speech decoders with batch size 1.

    Args:
        rounds: number of timing rounds.
        num_threads: number of threads of torch; sampling one step at a time gains nothing from
            more than one.
        progress: called with (rounds done, total rounds).

    Returns:
        "us": microseconds per sample of "whole" (a pass over a second for each sample), "field" (a
        pass over the receptive field for each sample), "cached", "fused" (None if unsupported),
        and "convolutional", the decoder of `audio-25hz`;
        "sample_rate"; "receptive_field" in samples; "weights", the number of parameters of the
        WaveNet; "options" of the WaveNet; "environment": versions and machine.

    Raises:
        ValueError: rounds or threads below 1.
    """
    for option, value in (("rounds", rounds), ("threads", num_threads)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    torch.manual_seed(0)
    slow, fast = build(WAVENET_MODEL), build(CONV_MODEL)
    likelihood, rate = slow.vqvae.likelihood, int(slow.config.rate)
    assert isinstance(likelihood, AutoregressiveLikelihood)
    prior = likelihood.prior
    assert prior.receptive_field is not None
    field = prior.receptive_field.left + 1
    features = torch.randn(1, likelihood.num_features, rate)
    codes = torch.randint(
        fast.vqvae.quantizer.codebook_size, (1, *fast.vqvae.compute_grid_shape((rate,)))
    )
    num_stepwise = int(STEPWISE_SECONDS * rate)

    def time_logits(length: int) -> TimedCall:
        values = torch.randint(prior.codebook_size, (1, length))
        return TimedCall(lambda: prior.logits(values, Cond(local=features[:, :, :length])))

    def time_sampling(method: Any, length: int) -> TimedCall:
        chunks = features[:, :, :length].split(2048, dim=2)

        def call() -> list[Tensor]:
            conds = (Cond(local=chunk) for chunk in chunks)
            return list(stream_chunks(prior, (), conds=conds, method=method))

        return TimedCall(call)

    timed = {
        "whole": time_logits(rate),
        "field": time_logits(field),
        "cached": time_sampling("cached", num_stepwise),
    }
    if select_method(prior) == "fused":
        timed["fused"] = time_sampling("fused", rate)
    timed["convolutional"] = TimedCall(lambda: fast.vqvae.decode(codes))
    done = iter(range(1, rounds + 2))
    with torch_num_threads(num_threads), torch.inference_mode():
        environment = collect_environment("numba")
        ms = measure_median_ms(
            timed, rounds=rounds, on_round_end=lambda: progress(next(done), rounds + 1)
        )
    samples = {"whole": 1, "field": 1, "cached": num_stepwise, "fused": rate, "convolutional": rate}
    return {
        "us": {name: 1000 * ms[name] / n if name in ms else None for name, n in samples.items()},
        "sample_rate": rate,
        "receptive_field": field,
        "weights": sum(weight.numel() for weight in prior.parameters()),
        "options": dict(slow.config.likelihood.options["prior"]),
        "environment": environment,
    }


def format_decoding_table(results: dict[str, Any]) -> str:
    """Format the results of `benchmark_decoding` as text."""
    rate, cached = results["sample_rate"], results["us"]["cached"]
    lines = [["decoder", "us/sample", "x real time", "speedup over cached"]]
    for name, us in results["us"].items():
        times = None if us is None else 1e6 / (us * rate)
        ratio = None if us is None else cached / us
        lines.append(
            [
                name,
                format_number(us),
                f"{_format_significant(times)}x",
                f"{_format_significant(ratio)}x",
            ]
        )
    options = ", ".join(f"{name} {value}" for name, value in results["options"].items())
    description = (
        f"{options}: {results['weights']:,} parameters, a receptive field of "
        f"{results['receptive_field']} samples, {rate} samples/s"
    )
    return f"{format_environment(results['environment'])}\n{description}\n\n{align_columns(lines)}"


def _format_significant(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"
