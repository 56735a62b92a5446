"""Text tables of `tools/benchmark.py maze`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.table import align_columns, format_with_ci
from vqvideo.report.environment import format_environment

PREDICTOR_TITLES = {
    "imagined": "prior given the actions",
    "unconditional": "prior without actions",
    "last_frame": "last real frame",
}
CONDITION_TITLES = {
    "right": "true actions",
    "shuffled": "actions of another episode",
    "none": "no actions",
}


def format_maze_table(results: Mapping[str, Any]) -> str:
    """Format the results of `benchmark_maze`: a line about the machine and tables per folder."""
    parts = [
        format_environment(results["environment"]),
        f"means over episodes ± half of their 95 % intervals; {results['codes_per_frame']} codes "
        f"out of {results['codebook_size']} per frame; temperature {results['temperature']}, "
        f"guidance scale {results['guidance_scale']}",
    ]
    for option, name in (("data", "data"), ("other_map", "other")):
        if results["measured"][name] is not None:
            parts += _format_split(results[option], results["measured"][name])
    return "\n\n".join(parts)


def _format_split(folder: str, metrics: Mapping[str, Any]) -> list[str]:
    length, num_episodes = metrics["num_frames"], metrics["num_episodes"]
    imagined_over_real = metrics["actions"]["imagined_over_real"]
    ratio = "-" if imagined_over_real is None else f"{imagined_over_real:.2f}"
    return [
        f"== {folder}: {num_episodes} episodes of {length} frames ==",
        f"Images relative to real ones: PSNR, dB, and SSIM\n"
        f"{align_columns(_build_image_rows(metrics))}",
        f"Per-episode PSNR gain of the prior given the actions, dB\n"
        f"{align_columns(_build_gain_rows(metrics['prediction']))}",
        f"NLL of the prior, nats per code\n"
        f"{align_columns(_build_nll_rows(metrics['nats_per_code']))}",
        f"Accuracy of the inverse model on pairs of frames; imagined/real {ratio}\n"
        f"{align_columns(_build_action_rows(metrics['actions']))}",
        f"Fréchet distance of frame statistics from real frames, in standard deviations\n"
        f"{align_columns(_build_drift_rows(metrics['drift']))}",
    ]


def _build_image_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    predictions = metrics["prediction"]
    header = [f"{each['frames_ahead']} ahead" for each in predictions]
    lines = [["", "all frames", *header]]
    for key, digits in (("psnr_db", 2), ("ssim", 3)):
        name = "PSNR" if key == "psnr_db" else "SSIM"
        reconstruction = format_with_ci(metrics["reconstruction"][key], digits)
        lines.append([f"{name}, reconstruction", reconstruction, *["-"] * len(header)])
        for predictor, title in PREDICTOR_TITLES.items():
            cells = [format_with_ci(each[predictor][key], digits) for each in predictions]
            lines.append([f"{name}, {title}", "-", *cells])
    return lines


def _build_gain_rows(predictions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = [["", *(f"{each['frames_ahead']} ahead" for each in predictions)]]
    for baseline in ("unconditional", "last_frame"):
        gains = [each[f"gain_over_{baseline}"]["psnr_db"] for each in predictions]
        cells = [format_with_ci(gain, 2) for gain in gains]
        lines.append([f"over {PREDICTOR_TITLES[baseline]}", *cells])
    return lines


def _build_nll_rows(nats: Mapping[str, Any]) -> list[list[str]]:
    lines = [["", "nats/code", "excess over true actions", "excess / standard error"]]
    for name, title in CONDITION_TITLES.items():
        excess = nats.get(f"{name}_over_right")
        excess_cell = "-" if excess is None else format_with_ci(excess, 4)
        error = None if excess is None else excess["standard_error"]
        z_score = f"{excess['mean'] / error:.1f}" if excess is not None and error else "-"
        lines.append([f"given {title}", format_with_ci(nats[name], 4), excess_cell, z_score])
    ratio = nats["right_over_unigram"]
    ratio_cell = "-" if ratio is None else f"{ratio:.3f}"
    return [
        *lines,
        ["unigram entropy", f"{nats['unigram']:.4f}", "", ""],
        ["ln K", f"{nats['uniform']:.4f}", "", ""],
        ["given true actions / unigram", ratio_cell, "", ""],
    ]


def _build_action_rows(actions: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of accuracies: overall, of the turn only, and for each true action."""
    lines = [["", "accuracy", "turn accuracy", *actions["names"]]]
    for source in ("real", "reconstructed", "imagined"):
        confusion = actions[source]["confusion"]
        shares = [
            f"{row[i] / sum(row):.0%}" if sum(row) else "-" for i, row in enumerate(confusion)
        ]
        accuracies = [
            format_with_ci(actions[source][name], 1, 100, " %")
            for name in ("accuracy", "turn_accuracy")
        ]
        lines.append([f"{source} frames", *accuracies, *shares])
    return lines


def _build_drift_rows(drift: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    sources = ("real", "reconstructed", "imagined")
    lines = [["frames ahead", *sources]]
    for part in drift:
        cells = ["-" if part[s] is None else format_with_ci(part[s], 2) for s in sources]
        lines.append([f"{part['first']} to {part['last']}", *cells])
    return lines
