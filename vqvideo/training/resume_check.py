"""Check that a run is resumed with the options and data that it was started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vqvideo.training.state import ResumeError
from vqvideo.training.task import TrainingConfig

IGNORED_KEYS = ("num_workers", "metadata")  # do not affect training
METADATA_KEYS = ("init_from", "data")  # of `TrainingConfig.metadata`
NUM_ITEMS_KEY = "items"
LEGACY_DEFAULTS = {"schedule": "linear"}  # options of runs that are older than the option


def build_identity(
    config: TrainingConfig,
    task_identity: Mapping[str, Any],
    precision: str,
    num_items: int,
    num_processes: int,
) -> dict[str, Any]:
    """Return everything that determines the training result, as plain data.

    Args:
        config: config of the run.
        task_identity: see `Task.identity`.
        precision: dtype of the networks on this machine.
        num_items: number of training items.
        num_processes: number of training processes.
    """
    options = {name: value for name, value in asdict(config).items() if name not in IGNORED_KEYS}
    optimizer = options.pop("optimizer")
    options |= {"optimizer": optimizer.pop("name"), **optimizer, "precision": precision}
    options |= {name: config.metadata.get(name) for name in METADATA_KEYS}
    options |= {**task_identity, NUM_ITEMS_KEY: num_items, "processes": num_processes}
    plain: dict[str, Any] = json.loads(json.dumps(options, default=str))
    return plain


def check_resumable(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ResumeError` with the differences if a run does not match the run in `out`."""
    if before.get(NUM_ITEMS_KEY) != now[NUM_ITEMS_KEY]:
        raise ResumeError(
            f"the data has {now[NUM_ITEMS_KEY]} training items, but had "
            f"{before.get(NUM_ITEMS_KEY)} when {out} was started; restore the data, or start over "
            f"with overwrite=True"
        )
    changed = list(_list_differences({**LEGACY_DEFAULTS, **before}, now))
    if changed:
        raise ResumeError(
            f"{out} was started with {', and '.join(changed)}; run the same command again, or "
            f"start over with overwrite=True"
        )


def _list_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    differences = []
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += _list_differences(old, new, f"{prefix}{name}.")
        elif old != new:
            differences.append(f"{prefix}{name} {old}, not {new}")
    return differences
