"""Training runs of a benchmark in a folder; complete runs are not repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vqvideo.atomic import write_text

TrainingLog = list[dict[str, float]]


def record_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings shared by the runs of a folder, before anything else is written there.

    Raises:
        ValueError: the folder has runs with other settings.
        FileExistsError: the folder has files, but no settings: it is not the folder of a benchmark.
    """
    file = out / "settings.json"
    if file.exists():
        try:
            found = json.loads(file.read_text())
        except (ValueError, RecursionError):
            found = None
        if found != settings:
            raise ValueError(f"{out} holds runs with other settings ({file}); choose another --out")
        return
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"{out} has files, but no {file.name} of an earlier benchmark; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(settings, indent=2) + "\n")


def is_complete(run: Path) -> bool:
    """Return whether a run has logged metrics after its last step."""
    if not (run / "training.json").is_file() or not (rows := read_log(run)):
        return False
    return bool(rows[-1]["step"] == json.loads((run / "training.json").read_text())["steps"])


def read_log(run: Path) -> TrainingLog:
    """Return the logged metrics of a run; an empty list if there is no run."""
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
