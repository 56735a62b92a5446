"""The plan of `vqvideo encode`: what is encoded, how, and into which code files.

A run resumes under an equal plan and rejects a different one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from vqvideo import media
from vqvideo.atomic import write_text
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.encode_shard import Shard, Unit
from vqvideo.data.clips import ClipDataset
from vqvideo.data.codes import CODE_FILE_PATTERN
from vqvideo.data.corrupt_files import CorruptFiles
from vqvideo.data.items import select_split
from vqvideo.data.metadata import Item, Split
from vqvideo.generator import Generator
from vqvideo.media.files import wrap_read_errors
from vqvideo.media.formats import VIDEO_SUFFIXES

PLAN_FILE = "encode.json"
PLAN_VERSION = 2
MAX_SHARDS = 10_000  # beyond it shards grow: training on codes keeps all files open
SPLITS: tuple[Split, ...] = ("train", "test")


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
        except (ValueError, TypeError, RecursionError) as cause:
            raise ValueError(
                f"{file} is damaged ({cause}); give another folder or --overwrite"
            ) from cause
        changed = [name for name in plan if earlier.get(name) != plan[name]]
        if changed:
            raise ValueError(
                f"{target} has codes of other settings: {', '.join(changed)} changed; give another "
                f"folder or --overwrite"
            )
        return
    elif code_files:
        raise FileExistsError(
            f"{target} already has code files; give another folder or --overwrite"
        )
    target.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(plan, indent=1) + "\n")


def iter_units(
    generator: Generator,
    folder: str,
    items: Sequence[Item],
    options: EncodeOptions,
    corrupt: CorruptFiles,
) -> Iterator[Unit]:
    """Yield the units of a folder: whole files, single frames, or windows."""

    def source(item: Item) -> str:
        return item.path.relative_to(folder).as_posix()

    if options.clip_stride is None:
        test = {item.path for item in select_split(items, "test")} if len(items) > 1 else set()
        for item in items:
            split: Split = "test" if item.path in test else "train"
            unit = Unit(item=replace(item, split=split), source=source(item))
            yield from _iter_frames(unit, corrupt) if generator.vqvae.rank == 2 else [unit]
        return
    for split_name in SPLITS:
        config = generator.config
        clips = ClipDataset(
            folder,
            config.sample_shape,
            split=split_name,
            clip_stride=options.clip_stride,
            fit=options.fit,
            fps=options.fps,
            sample_rate=int(config.rate) if config.rank == 1 else None,
            max_corrupt=1.0,  # the limit applies to all splits together
        )
        for path, reason in clips.skipped:
            corrupt.add(path, media.MediaError(reason))
        # One item for all windows of a file: one per window would dominate the memory.
        for item, windows in groupby(clips.windows, key=attrgetter("item")):
            split_item, name = replace(item, split=split_name), source(item)
            for window in windows:
                length = config.sample_shape[0]
                yield Unit(item=split_item, source=name, start=window.start, length=length)


def _iter_frames(unit: Unit, corrupt: CorruptFiles) -> Iterator[Unit]:
    """Yield windows of one frame, for an image model: each frame of a video, or an image."""
    path = unit.item.path
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield replace(unit, length=1)
        return
    try:
        with wrap_read_errors(path):
            num_frames = media.probe(path).num_frames
    except media.MediaError as error:
        corrupt.add(path, error)
        return
    for start in range(num_frames):
        yield replace(unit, start=start, length=1)


def split_shards(template: Shard, shard_size: int) -> Iterator[Shard]:
    """Yield shards of at most `shard_size` units, larger if there would be over `MAX_SHARDS`."""
    shard_size = max(shard_size, -(-len(template.units) // MAX_SHARDS))
    num_shards = -(-len(template.units) // shard_size)
    for index in range(num_shards):
        units = template.units[index * shard_size : (index + 1) * shard_size]
        path = template.path / f"codes-{index:05d}-of-{num_shards:05d}.safetensors"
        yield replace(template, units=units, path=path)
