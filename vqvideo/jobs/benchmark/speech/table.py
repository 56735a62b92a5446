"""The figures of `vqvideo benchmark speech` as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqvideo.jobs.benchmark.table import aligned, with_interval
from vqvideo.report.machine import as_line

GROUPS = {
    "trained_told": "trained voices, told who",
    "trained_told_nothing": "trained voices, told nothing",
    "unseen_told_nothing": "unseen voices, told nothing",
}
VERSIONS = {
    "original": "recording",
    "told_nothing": "reconstruction, told nothing",
    "converted": "conversion",
}
SHARES = {
    "target": "target",
    "source": "source",
    "somebody_else": "somebody else",
    "target_over_source": "target before source",
}


def speech_table(found: Mapping[str, Any]) -> str:
    """What `benchmark_speech` returned: a line about the machine, and four tables."""
    phones = "no phones: there is no map of them, or --unseen has no segments"
    if found["phones"] is not None:
        phones = f"Phones of frames without silence\n{aligned(_phones(found['phones']))}"
    head = (
        f"means over speakers, and half of their 95 % intervals; {found['num_held_out']} "
        f"utterances of trained speakers, {found['num_unseen']} of unseen ones"
    )
    title = (
        f"Whose voice it is judged to be; conversions to {', '.join(found['targets'])}. The rank "
        f"of the target is among {found['judge']['num_speakers']}"
    )
    parts = [
        as_line(found["setting"]),
        head,
        f"Reconstruction{_values(found)}\n{aligned(_reconstruction(found['reconstruction']))}",
        f"The judge of voices, on recordings held out\n{aligned(_judge(found['judge']))}",
        f"{title}\n{aligned(_conversion(found['conversion']))}",
        phones,
    ]
    return "\n\n".join(parts)


def _values(found: Mapping[str, Any]) -> str:
    return f"; bits are of {found['values']}" if found["values"] else ""


def _reconstruction(groups: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "mel distance", "SI-SNR, dB", "bits/sample"]]
    for name, title in GROUPS.items():
        figures = groups[name]
        bits = with_interval(figures["bits_per_sample"], 3) if "bits_per_sample" in figures else "-"
        distance, ratio = (
            with_interval(figures["mel_distance"], 3),
            with_interval(figures["si_snr_db"], 1),
        )
        lines.append([title, distance, ratio, bits])
    return lines


def _judge(judge: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["", "right"],
        ["trained voices", _percent(judge["accuracy_trained"])],
        ["unseen voices", _percent(judge["accuracy_unseen"])],
        ["chance", f"{judge['chance']:.1%}"],
    ]


def _conversion(versions: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", *SHARES.values(), "rank"]]
    for name, title in VERSIONS.items():
        figures = versions[name]
        shares = [_percent(figures[share]) for share in SHARES]
        lines.append([title, *shares, with_interval(figures["target_rank"], 1)])
    return lines


def _phones(versions: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "as was said", "as of the recording's codes"]]
    for name, title in VERSIONS.items():
        figures = versions[name]
        lines.append([title, _percent(figures["accuracy"]), _percent(figures["as_before"])])
    return lines


def _percent(figure: Mapping[str, Any]) -> str:
    return with_interval({"mean": figure["mean"], "ci95": figure["ci95"]}, 1, 100, " %")
