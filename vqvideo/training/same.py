"""What must be the same for a run to go on, and what to say where it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vqvideo.training.state import ResumeError
from vqvideo.training.task import TrainingConfig

FREE = ("num_workers", "about")  # decide nothing of what is learnt
REMEMBERED = ("init_from", "data")  # of what is said about a run
DATA = "items"
LATER = {"schedule": "linear"}  # what runs did that were begun when there was no choice


def identity(
    config: TrainingConfig, task: Mapping[str, Any], precision: str, items: int, processes: int
) -> dict[str, Any]:
    """All that decides what is learnt, as plain data.

    Args:
        config: of the run.
        task: what its task says of itself, see `Task.identity`.
        precision: in which networks calculate here.
        items: to train on.
        processes: that train.
    """
    told = {name: value for name, value in asdict(config).items() if name not in FREE}
    optimizer = told.pop("optimizer")
    told |= {"optimizer": optimizer.pop("name"), **optimizer, "precision": precision}
    told |= {name: config.about.get(name) for name in REMEMBERED}
    told |= {**task, DATA: items, "processes": processes}
    plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
    return plain


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ResumeError` where a run would go on as another one; the message says what differs."""
    if before.get(DATA) != now[DATA]:
        raise ResumeError(
            f"the data has {now[DATA]} items to train on, {before.get(DATA)} when {out} was begun; "
            f"give the data back what it lacks, or start anew with --overwrite"
        )
    changed = list(_differing({**LATER, **before}, now))
    if changed:
        raise ResumeError(
            f"{out} was begun with {', and '.join(changed)}; give the same command again, or start "
            f"anew with --overwrite"
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], of: str = "") -> list[str]:
    found = []
    for name in {**now, **before}:
        one, other = before.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differing(one, other, f"{of}{name}.")
        elif one != other:
            found.append(f"{of}{name} {one}, not {other}")
    return found
