"""What `vqvideo benchmark maze` has measured, as means over episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vqvideo.data.maze_walk import ACTIONS
from vqvideo.jobs.benchmark.maze.drift import Reference
from vqvideo.jobs.benchmark.maze.measuring import AHEAD, Row
from vqvideo.metrics import entropy_nats, mean_and_interval

BASELINES = ("told_nothing", "last_frame")
SOURCES = ("real", "reconstructed", "imagined")
TURNS = [("left" in name.split()) - ("right" in name.split()) for name in ACTIONS]
TENS = 10  # frames over which the drift is averaged


def over_episodes(values: Sequence[float]) -> dict[str, Any]:
    """The mean, its 95 % interval, and the standard error that it comes from, None for one value.

    >>> found = over_episodes([1.0, 1.0, 4.0, 4.0])
    >>> found["mean"], round(found["standard_error"], 4)
    (2.5, 0.866)
    """
    each = torch.tensor(values, dtype=torch.float64)
    error = each.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return {**mean_and_interval(values)._asdict(), "standard_error": error}


def summary(rows: Sequence[Row], counts: Tensor) -> dict[str, Any]:
    """The figures of some episodes.

    Args:
        rows: one for each.
        counts: `[K]`, how often each code came.

    Returns:
        `reconstruction`, `prediction` (a list by `frames_ahead`), `nats_per_code`, `actions` (what
        the inverse model recovers) and `drift` (a list by tens of frames).
    """
    return {
        "num_episodes": len(rows),
        "reconstruction": _pictures(rows, lambda row: row.reconstruction),
        "prediction": [{"frames_ahead": k, **_prediction(rows, i)} for i, k in enumerate(AHEAD)],
        "nats_per_code": _nats(rows, counts),
        "actions": _actions(rows),
        "drift": _drift(rows),
    }


def _pictures(
    rows: Sequence[Row], read: Callable[[Row], dict[str, float]]
) -> dict[str, dict[str, Any]]:
    return {
        name: over_episodes([read(row)[name] for row in rows]) for name in rows[0].reconstruction
    }


def _prediction(rows: Sequence[Row], index: int) -> dict[str, Any]:
    """Of a number of frames ahead: who predicts, and by how much the model does better than each
    baseline, episode by episode.
    """
    found: dict[str, Any] = {
        name: _pictures(rows, lambda row, name=name: row.prediction[name][index])  # type: ignore[misc]
        for name in ("imagined", *BASELINES)
    }
    for baseline in BASELINES:

        def gain(row: Row, baseline: str = baseline) -> dict[str, float]:
            ours, theirs = row.prediction["imagined"][index], row.prediction[baseline][index]
            return {name: ours[name] - theirs[name] for name in ours}

        found[f"gain_over_{baseline}"] = _pictures(rows, gain)
    return found


def _nats(rows: Sequence[Row], counts: Tensor) -> dict[str, Any]:
    """Nats per code by what the prior is told; what it costs to be told something else, or nothing;
    and what codes take that are drawn by their frequencies, or all alike.
    """
    found = {
        told: over_episodes([row.nats_per_code[told] for row in rows])
        for told in rows[0].nats_per_code
    }
    unigram = entropy_nats(counts).item()
    for told in ("shuffled", "none"):
        cost = over_episodes([r.nats_per_code[told] - r.nats_per_code["right"] for r in rows])
        error = cost["standard_error"]
        cost["right_wins_by_three_errors"] = error is not None and cost["mean"] > 3 * error
        found[f"{told}_over_right"] = cost
    return {
        **found,
        "unigram": unigram,
        "uniform": math.log(len(counts)),
        "right_over_unigram": found["right"]["mean"] / unigram if unigram else None,
    }


def _actions(rows: Sequence[Row]) -> dict[str, Any]:
    """How often the inverse model sees what was done, and what it sees instead: a row for each
    action that was done, a column for each that is seen. `turn_accuracy` counts the turn alone, to
    the left, to the right or none: a player glides on, so that forward looks like no step at all.
    """
    turns = torch.tensor(TURNS)
    found: dict[str, Any] = {}
    for source in SOURCES:
        pairs = [row.recovered[source] for row in rows]
        right = [(done == seen).double().mean().item() for done, seen in pairs]
        turned = [(turns[done] == turns[seen]).double().mean().item() for done, seen in pairs]
        done, seen = torch.cat(pairs, dim=1)
        cells = torch.bincount(done * len(ACTIONS) + seen, minlength=len(ACTIONS) ** 2)
        confusion = cells.reshape(len(ACTIONS), len(ACTIONS)).tolist()
        found[source] = {
            "accuracy": over_episodes(right),
            "turn_accuracy": over_episodes(turned),
            "confusion": confusion,
        }
    real = found["real"]["accuracy"]["mean"]
    ratio = found["imagined"]["accuracy"]["mean"] / real if real else None
    return {"names": list(ACTIONS), **found, "imagined_over_real": ratio}


def _drift(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The distance from real frames, of ten frames after ten: of the imagined ones, and, as long as
    the recordings go on, of what is recorded and reconstructed.
    """
    of = {name: torch.stack([row.statistics[name] for row in rows]) for name in SOURCES}
    reference, length = Reference.of(of["real"]), of["imagined"].shape[1]
    found = []
    for start in range(0, length, TENS):
        part: dict[str, Any] = {"first": start + 1, "last": min(start + TENS, length)}
        for name in SOURCES:
            some = of[name][:, start : start + TENS]
            part[name] = reference.distance_and_interval(some) if some.shape[1] else None
        found.append(part)
    return found
