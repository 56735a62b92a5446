"""Metrics of `tools/benchmark.py maze`, averaged over episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.maze.drift import ReferenceStatistics
from benchmarks.maze.evaluator import HORIZONS, EpisodeMetrics
from vqvideo.metrics import entropy_nats, estimate_mean
from vqvideo.recipes.worlds.maze_agent import ACTIONS

BASELINES = ("unconditional", "last_frame")
SOURCES = ("real", "reconstructed", "imagined")
TURN_DIRECTIONS = [("left" in name.split()) - ("right" in name.split()) for name in ACTIONS]
DRIFT_WINDOW = 10  # frames over which the drift is averaged


def average_over_episodes(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean, its 95 % interval and its standard error (None for a single value).

    >>> result = average_over_episodes([1.0, 1.0, 4.0, 4.0])
    >>> result["mean"], round(result["standard_error"], 4)
    (2.5, 0.866)
    """
    tensor = torch.tensor(values, dtype=torch.float64)
    error = tensor.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return {**estimate_mean(values)._asdict(), "standard_error": error}


def summarize_episodes(rows: Sequence[EpisodeMetrics], code_counts: Tensor) -> dict[str, Any]:
    """Summarize the metrics of episodes.

    Args:
        rows: metrics of each episode.
        code_counts: `[K]`, count of each code.

    Returns:
        `reconstruction`, `prediction` (a list by `frames_ahead`), `nats_per_code`, `actions`
        (accuracy of the inverse model) and `drift` (a list over windows of ten frames).
    """
    return {
        "num_episodes": len(rows),
        "reconstruction": _average_image_metrics(rows, lambda row: row.reconstruction),
        "prediction": [
            {"frames_ahead": k, **_summarize_prediction(rows, i)} for i, k in enumerate(HORIZONS)
        ],
        "nats_per_code": _summarize_nll(rows, code_counts),
        "actions": _summarize_actions(rows),
        "drift": _summarize_drift(rows),
    }


def _average_image_metrics(
    rows: Sequence[EpisodeMetrics], read: Callable[[EpisodeMetrics], dict[str, float]]
) -> dict[str, dict[str, Any]]:
    return {
        name: average_over_episodes([read(row)[name] for row in rows])
        for name in rows[0].reconstruction
    }


def _summarize_prediction(rows: Sequence[EpisodeMetrics], index: int) -> dict[str, Any]:
    """Summarize predictions at one horizon: metrics of each predictor, and the per-episode gain of
    the model over each baseline.
    """
    summary: dict[str, Any] = {
        name: _average_image_metrics(rows, lambda row, name=name: row.prediction[name][index])  # type: ignore[misc]
        for name in ("imagined", *BASELINES)
    }
    for baseline in BASELINES:

        def compute_gain(row: EpisodeMetrics, baseline: str = baseline) -> dict[str, float]:
            ours, other = row.prediction["imagined"][index], row.prediction[baseline][index]
            return {name: ours[name] - other[name] for name in ours}

        summary[f"gain_over_{baseline}"] = _average_image_metrics(rows, compute_gain)
    return summary


def _summarize_nll(rows: Sequence[EpisodeMetrics], code_counts: Tensor) -> dict[str, Any]:
    """Summarize the NLL in nats per code: by the actions given to the prior, the excess without the
    true actions, and the NLL of unigram and uniform models of the codes.
    """
    summary = {
        name: average_over_episodes([row.nats_per_code[name] for row in rows])
        for name in rows[0].nats_per_code
    }
    unigram = entropy_nats(code_counts).item()
    for name in ("shuffled", "none"):
        excess = average_over_episodes(
            [r.nats_per_code[name] - r.nats_per_code["right"] for r in rows]
        )
        error = excess["standard_error"]
        excess["exceeds_three_standard_errors"] = error is not None and excess["mean"] > 3 * error
        summary[f"{name}_over_right"] = excess
    return {
        **summary,
        "unigram": unigram,
        "uniform": math.log(len(code_counts)),
        "right_over_unigram": summary["right"]["mean"] / unigram if unigram else None,
    }


def _summarize_actions(rows: Sequence[EpisodeMetrics]) -> dict[str, Any]:
    """Summarize the accuracy and confusion matrix of the inverse model: a row for each true action,
    a column for each predicted one. `turn_accuracy` only compares the turn (left, right or none),
    since the agent keeps gliding and a forward step looks like no step.
    """
    turns = torch.tensor(TURN_DIRECTIONS)
    summary: dict[str, Any] = {}
    for source in SOURCES:
        pairs = [row.action_pairs[source] for row in rows]
        correct = [(true == predicted).double().mean().item() for true, predicted in pairs]
        correct_turns = [
            (turns[true] == turns[predicted]).double().mean().item() for true, predicted in pairs
        ]
        true, predicted = torch.cat(pairs, dim=1)
        cells = torch.bincount(true * len(ACTIONS) + predicted, minlength=len(ACTIONS) ** 2)
        confusion = cells.reshape(len(ACTIONS), len(ACTIONS)).tolist()
        summary[source] = {
            "accuracy": average_over_episodes(correct),
            "turn_accuracy": average_over_episodes(correct_turns),
            "confusion": confusion,
        }
    real = summary["real"]["accuracy"]["mean"]
    ratio = summary["imagined"]["accuracy"]["mean"] / real if real else None
    return {"names": list(ACTIONS), **summary, "imagined_over_real": ratio}


def _summarize_drift(rows: Sequence[EpisodeMetrics]) -> list[dict[str, Any]]:
    """Summarize the distance from real frames in windows of ten frames: of the imagined frames and,
    up to the end of the recordings, of the recorded and reconstructed frames.
    """
    statistics = {name: torch.stack([row.statistics[name] for row in rows]) for name in SOURCES}
    reference = ReferenceStatistics.from_statistics(statistics["real"])
    length = statistics["imagined"].shape[1]
    summary = []
    for start in range(0, length, DRIFT_WINDOW):
        part: dict[str, Any] = {"first": start + 1, "last": min(start + DRIFT_WINDOW, length)}
        for name in SOURCES:
            window = statistics[name][:, start : start + DRIFT_WINDOW]
            part[name] = reference.estimate_frechet_distance(window) if window.shape[1] else None
        summary.append(part)
    return summary
