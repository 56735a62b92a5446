"""The figures of `vqvideo benchmark bits` as text."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from vqvideo.jobs.benchmark.table import aligned
from vqvideo.report.machine import as_line

Runs = list[dict[str, Any]]


def bits_table(found: Mapping[str, Any]) -> str:
    """What `benchmark_bits` returned: a line about the machine, the trials and the methods."""
    methods: dict[str, dict[str, Runs]] = found["methods"]
    trials = [["trial", "latents", "values", "learning rate", "bits/dim"]]
    rows = [["method", "latents", "values", "bits/dim", "seeds", "data", "latents", "of VAE"]]
    reference = mean_bits(methods["vae"]["runs"]) if "vae" in methods else None
    for method, each in methods.items():
        for run in each["trials"]:
            bits = "diverges" if run["bits"] is None else f"{run['bits']:.3f}"
            trials.append([method, *_trial(run), bits])
        runs, ends = each["runs"], [run["bits"] for run in each["runs"]]
        rows.append(
            [
                method,
                *_trial(runs[0])[:2],
                f"{mean(ends):.3f}",
                f"{min(ends):.3f} to {max(ends):.3f}",
                f"{mean(run['data_bits'] for run in runs):.3f}",
                f"{mean(run['latent_bits'] for run in runs):.3f}" if method != "vimco" else "-",
                "-" if reference is None else f"{mean(ends) / reference - 1:+.1%}",
            ]
        )
    return "\n\n".join([as_line(found["setting"]), aligned(trials), aligned(rows)])


def mean_bits(runs: Runs) -> float:
    """Bits per dimension of a method, the mean over its seeds."""
    bits: list[float] = [run["bits"] for run in runs]
    return mean(bits)


def _trial(run: Mapping[str, Any]) -> list[str]:
    trial = run["trial"]
    size = str(trial["codebook_size"]) if trial["codebook_size"] else "-"
    return [str(trial["latents"]), size, f"{trial['learning_rate']:g}"]
