"""Text tables of `tools/benchmark.py speech`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.table import align_columns, format_with_ci
from vqvideo.report.environment import format_environment

GROUP_TITLES = {
    "trained_conditional": "trained speakers, conditional",
    "trained_unconditional": "trained speakers, unconditional",
    "unseen_unconditional": "unseen speakers, unconditional",
}
VERSION_TITLES = {
    "original": "recording",
    "unconditional": "reconstruction, unconditional",
    "converted": "conversion",
}
RATE_TITLES = {
    "target": "target",
    "source": "source",
    "other_speaker": "other speaker",
    "target_over_source": "target over source",
}


def format_speech_table(results: Mapping[str, Any]) -> str:
    """Format the results of `benchmark_speech`: a line about the machine and four tables."""
    phones = "no phones: the model has no phone map, or --unseen has no segments"
    if results["phones"] is not None:
        phone_rows = _build_phone_rows(results["phones"])
        phones = f"Phones of frames without silence\n{align_columns(phone_rows)}"
    head = (
        f"means over speakers ± half of their 95 % intervals; {results['num_held_out']} "
        f"utterances of trained speakers, {results['num_unseen']} of unseen speakers"
    )
    title = (
        f"Predicted speaker; conversions to {', '.join(results['targets'])}. The rank of the "
        f"target is among {results['judge']['num_speakers']}"
    )
    parts = [
        format_environment(results["environment"]),
        head,
        f"Reconstruction{_format_levels(results)}\n"
        f"{align_columns(_build_reconstruction_rows(results['reconstruction']))}",
        f"Speaker classifier on held-out recordings\n"
        f"{align_columns(_build_classifier_rows(results['judge']))}",
        f"{title}\n{align_columns(_build_conversion_rows(results['conversion']))}",
        phones,
    ]
    return "\n\n".join(parts)


def _format_levels(results: Mapping[str, Any]) -> str:
    return f"; bits refer to {results['values']}" if results["values"] else ""


def _build_reconstruction_rows(groups: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "mel distance", "SI-SNR, dB", "bits/sample"]]
    for name, title in GROUP_TITLES.items():
        metrics = groups[name]
        bits = (
            format_with_ci(metrics["bits_per_sample"], 3) if "bits_per_sample" in metrics else "-"
        )
        distance, ratio = (
            format_with_ci(metrics["mel_distance"], 3),
            format_with_ci(metrics["si_snr_db"], 1),
        )
        lines.append([title, distance, ratio, bits])
    return lines


def _build_classifier_rows(classifier: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["", "accuracy"],
        ["trained speakers", _format_percent(classifier["accuracy_trained"])],
        ["unseen speakers", _format_percent(classifier["accuracy_unseen"])],
        ["chance", f"{classifier['chance']:.1%}"],
    ]


def _build_conversion_rows(versions: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", *RATE_TITLES.values(), "rank"]]
    for name, title in VERSION_TITLES.items():
        metrics = versions[name]
        shares = [_format_percent(metrics[share]) for share in RATE_TITLES]
        lines.append([title, *shares, format_with_ci(metrics["target_rank"], 1)])
    return lines


def _build_phone_rows(versions: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "accuracy", "agreement with the recording"]]
    for name, title in VERSION_TITLES.items():
        metrics = versions[name]
        lines.append(
            [
                title,
                _format_percent(metrics["accuracy"]),
                _format_percent(metrics["code_agreement"]),
            ]
        )
    return lines


def _format_percent(metric: Mapping[str, Any]) -> str:
    return format_with_ci({"mean": metric["mean"], "ci95": metric["ci95"]}, 1, 100, " %")
