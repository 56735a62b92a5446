"""The plan of `vqvideo encode`: a run resumes under an equal plan and rejects a different one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqvideo.commands.encode_shard import Unit
from vqvideo.data.codes import CODE_FILE_PATTERN
from vqvideo.data.metadata import Item
from vqvideo.media.files import output_file

PLAN_FILE = "encode.json"
PLAN_VERSION = 2


def build_plan(units: Sequence[Unit], settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the code files: files, clips and settings."""
    files = {unit.source: unit.item for unit in units}
    clips = [
        (u.source, u.start, u.length, u.item.split, u.item.class_name, u.item.speaker)
        for u in units
    ]
    return {
        "plan_version": PLAN_VERSION,
        **settings,
        "clips": hashlib.sha256(repr(clips).encode()).hexdigest(),
        "files": {source: _stat_item(item) for source, item in files.items()},
    }


def _stat_item(item: Item) -> list[int]:
    """Return size and modification time of a file and of its actions, to detect changes."""
    paths = [item.path, *([item.actions] if item.actions else [])]
    return [n for path in paths for n in (path.stat().st_size, path.stat().st_mtime_ns)]


def check_plan(target: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Check that `target` is new or has the same plan, and write the plan; or clear `target`.

    Raises:
        ValueError: the folder has codes of another plan, or a damaged plan.
        FileExistsError: the folder has codes but no plan.
    """
    file = target / PLAN_FILE
    code_files = sorted(target.glob(CODE_FILE_PATTERN))
    if overwrite:
        for path in [file, *code_files]:
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
                f"{target} has codes of other settings: {', '.join(changed)} changed; give another "
                f"folder or --overwrite"
            )
    elif code_files:
        raise FileExistsError(
            f"{target} already has code files; give another folder or --overwrite"
        )
    target.mkdir(parents=True, exist_ok=True)
    with output_file(file, suffixes=(".json",), overwrite=True) as temporary:
        temporary.write_text(json.dumps(plan, indent=1) + "\n")
