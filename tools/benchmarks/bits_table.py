"""Text tables of `tools/benchmark.py bits`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from benchmarks.table import align_columns
from vqvideo.report.environment import format_environment

Runs = list[dict[str, Any]]


def format_bits_table(results: Mapping[str, Any]) -> str:
    """Format the results of `benchmark_bits`: a line about the machine, trials and methods."""
    methods: dict[str, dict[str, Runs]] = results["methods"]
    trials = [["trial", "latents", "values", "learning rate", "bits/dim"]]
    rows = [["method", "latents", "values", "bits/dim", "seeds", "data", "latents", "of VAE"]]
    reference = compute_mean_bits(methods["vae"]["runs"]) if "vae" in methods else None
    for method, results_of_method in methods.items():
        for run in results_of_method["trials"]:
            bits = "diverged" if run["bits"] is None else f"{run['bits']:.3f}"
            trials.append([method, *_format_trial(run), bits])
        runs = results_of_method["runs"]
        bits_per_seed = [run["bits"] for run in runs]
        rows.append(
            [
                method,
                *_format_trial(runs[0])[:2],
                f"{mean(bits_per_seed):.3f}",
                f"{min(bits_per_seed):.3f} to {max(bits_per_seed):.3f}",
                f"{mean(run['data_bits'] for run in runs):.3f}",
                f"{mean(run['latent_bits'] for run in runs):.3f}" if method != "vimco" else "-",
                "-" if reference is None else f"{mean(bits_per_seed) / reference - 1:+.1%}",
            ]
        )
    return "\n\n".join(
        [format_environment(results["environment"]), align_columns(trials), align_columns(rows)]
    )


def compute_mean_bits(runs: Runs) -> float:
    """Return the bits per dimension of a method, averaged over its seeds."""
    bits: list[float] = [run["bits"] for run in runs]
    return mean(bits)


def _format_trial(run: Mapping[str, Any]) -> list[str]:
    trial = run["trial"]
    size = str(trial["codebook_size"]) if trial["codebook_size"] else "-"
    return [str(trial["num_latents"]), size, f"{trial['learning_rate']:g}"]
