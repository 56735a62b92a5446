"""What `vqvideo encode` will make, written down: the same plan goes on, another one is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqvideo.data.codes import PATTERN
from vqvideo.data.metadata import Item
from vqvideo.jobs.encode_shard import Unit
from vqvideo.media.files import output_file

PLAN = "encode.json"
PLAN_VERSION = 2


def plan(units: Sequence[Unit], settings: dict[str, Any]) -> dict[str, Any]:
    """All that decides what the code files hold: the files, the clips and the settings."""
    files = {unit.source: unit.item for unit in units}
    clips = [
        (u.source, u.start, u.length, u.item.split, u.item.class_name, u.item.speaker)
        for u in units
    ]
    return {
        "plan_version": PLAN_VERSION,
        **settings,
        "clips": hashlib.sha256(repr(clips).encode()).hexdigest(),
        "files": {source: _state(item) for source, item in files.items()},
    }


def _state(item: Item) -> list[int]:
    """Size and time of a file, and of its actions: other ones tell that it changed."""
    paths = [item.path, *([item.actions] if item.actions else [])]
    return [n for path in paths for n in (path.stat().st_size, path.stat().st_mtime_ns)]


def check_plan(target: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Go on with what the same plan began; anything else must be overwritten by name.

    Raises:
        ValueError: the folder holds codes of another plan.
        FileExistsError: it holds codes and no plan.
    """
    file = target / PLAN
    there = sorted(target.glob(PATTERN))
    if overwrite:
        for path in [file, *there]:
            path.unlink(missing_ok=True)
    elif file.is_file():
        try:
            earlier = dict(json.loads(file.read_text()))
        except ValueError as cause:
            raise ValueError(
                f"{file} is damaged ({cause}); give another folder or --overwrite"
            ) from cause
        changed = [name for name in plan if earlier.get(name) != plan[name]]
        if changed:
            raise ValueError(
                f"{target} holds codes made otherwise: {', '.join(changed)} changed since; give "
                f"another folder or --overwrite"
            )
    elif there:
        raise FileExistsError(f"{target} holds code files already; give another or --overwrite")
    target.mkdir(parents=True, exist_ok=True)
    with output_file(file, suffixes=(".json",), overwrite=True) as temporary:
        temporary.write_text(json.dumps(plan, indent=1) + "\n")
