"""Training runs of a benchmark, in a folder; those that are complete are not run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, float]]


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Note what the runs of a folder have in common; refuse one whose runs differ."""
    file = out / "settings.json"
    if file.exists() and json.loads(file.read_text()) != settings:
        raise ValueError(f"{out} holds runs with other settings ({file}); give another --out")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=2) + "\n")


def is_complete(run: Path) -> bool:
    """Whether a run has measured after its last step."""
    if not (run / "training.json").is_file() or not (rows := log_of(run)):
        return False
    return bool(rows[-1]["step"] == json.loads((run / "training.json").read_text())["steps"])


def log_of(run: Path) -> Rows:
    """The measurements of a run; none where there is no run."""
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
