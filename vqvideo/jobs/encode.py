"""`vqvideo encode`: a folder of media files as code files.

The work is cut into shards, one code file each, decided by the list of files alone: `encode.json`
in the output keeps that list and the settings. A shard whose file exists is done, so a run that was
stopped goes on where it was, and any number of processes makes the same files (as far as torch's
sums do not depend on the number of threads, which may round a number in a million otherwise).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqvideo import media
from vqvideo.data.clips import SUFFIXES, ClipDataset
from vqvideo.data.codes import PATTERN, CodeFile
from vqvideo.data.corrupt import CorruptFiles
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import Item, Split
from vqvideo.generator import Generator
from vqvideo.grid import grid_shape
from vqvideo.jobs.compress import coder_of
from vqvideo.jobs.encode_shard import Bits, Shard, Unit, encode_shard
from vqvideo.jobs.model import open_model
from vqvideo.jobs.processes import Report, counting, work_off
from vqvideo.media.files import output_file
from vqvideo.media.pixels import Fit

PLAN = "encode.json"
PLAN_VERSION = 1
SPLITS: tuple[Split, ...] = ("train", "test")
PER_SHARD = {"files": 16, "windows": 256}


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How a folder is encoded.

    Attributes:
        clip_step: cut files into windows of the model's own shape that begin so many frames or
            sound samples apart, each encoded by itself; None encodes each file as one clip, in
            constant memory.
        size: (height, width) to which pictures are brought; None is what the model was made for.
        fit: see `vqvideo.media.read_video`.
        fps: frames per second of the clips, for a model trained so; None keeps those of each file.
        compress: under the model's prior.
        num_processes: each with an equal share of the processor's cores.
        max_corrupt: which share of the files may be unreadable and left out. Of fewer than 100
            files, the default allows none.
        device: see `open_model`.
        overwrite: begin anew, whatever an earlier run left.
    """

    clip_step: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    fps: float | None = None
    compress: bool = False
    num_processes: int = 1
    max_corrupt: float = 0.01
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("clip_step", "num_processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.max_corrupt <= 1:
            raise ValueError(f"max_corrupt must be a share from 0 to 1, got {self.max_corrupt}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number of frames per second, got {self.fps}")


def encode(
    folder: str,
    out: str,
    *,
    model: str = "video",
    options: EncodeOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> tuple[list[Path], dict[str, Any]]:
    """Encode a folder; returns the code files and figures about what this run encoded.

    Args:
        folder: media files, with or without a `metadata.jsonl`.
        out: a folder for the code files; what an earlier run finished there is not done again.
        model: see `open_model`.
        options: how.
        progress: called with (files or windows done, all).
        warn: called with a sentence about each file that cannot be read.

    Raises:
        ValueError: nothing to encode, an option for another kind of data, or `out` holds codes of
            other files or settings.
        media.MediaError: too many files cannot be read.
    """
    options = options or EncodeOptions()
    generator = open_model(model, options.device)
    _check_options(generator, options)
    items = list_items(folder, SUFFIXES[generator.vqvae.rank])
    corrupt = CorruptFiles([item.path for item in items], options.max_corrupt)
    units = list(_units(generator, folder, items, options, corrupt))
    for _, reason in corrupt.list():
        warn(f"left out: {reason}")
    shards = _planned(generator, model, Path(out), units, options)

    def count(file: Path) -> None:
        """Count what could not be read, that of an earlier run too; stops where it is too much."""
        for source, reason in CodeFile(file).corrupt.items():
            if corrupt.add(Path(folder) / source, media.MediaError(reason)):
                warn(f"left out: {reason}")

    waiting = [shard for shard in shards if not shard.path.is_file()]
    for shard in shards:
        if shard not in waiting:
            count(shard.path)
    total, sizes = Bits(), [len(shard.units) for shard in waiting]
    report = counting(progress, len(units) - sum(sizes), len(units))
    for shard, bits in work_off(_one, waiting, sizes, options.num_processes, report):
        count(shard.path)
        total = total.plus(bits)
    return [shard.path for shard in shards], _figures(shards, corrupt, total, options.compress)


def _planned(
    generator: Generator, model: str, target: Path, units: Sequence[Unit], options: EncodeOptions
) -> list[Shard]:
    """The shards of a run, after its plan was compared with what is there, and written."""
    size = _size(generator, options)
    _check_plan(target, _plan(generator, units, size, options), options.overwrite)
    threads = max(1, (os.cpu_count() or 1) // options.num_processes)
    whole = Shard(
        path=target,
        units=tuple(units),
        model=model,
        size=size,
        fit=options.fit,
        fps=options.fps,
        compress=options.compress,
        device=options.device,
        num_threads=threads if options.num_processes > 1 else None,
    )
    return list(_shards(whole, PER_SHARD["windows" if options.clip_step else "files"]))


def _one(shard: Shard, report: Report) -> tuple[Shard, Bits]:
    return shard, encode_shard(shard, report)


def _units(
    generator: Generator,
    folder: str,
    items: Sequence[Item],
    options: EncodeOptions,
    corrupt: CorruptFiles,
) -> Iterator[Unit]:
    def source(item: Item) -> str:
        return item.path.relative_to(folder).as_posix()

    if options.clip_step is None:
        test = {item.path for item in items_of(items, "test")} if len(items) > 1 else set()
        for item in items:
            split: Split = "test" if item.path in test else "train"
            yield Unit(item=replace(item, split=split), source=source(item))
        return
    for part in SPLITS:
        config = generator.config
        clips = ClipDataset(
            folder,
            config.sample_shape,
            split=part,
            step=options.clip_step,
            fit=options.fit,
            fps=options.fps,
            sample_rate=int(config.rate) if config.rank == 1 else None,
            max_corrupt=1.0,  # of a split; what counts is the share of all
        )
        for path, reason in clips.skipped:
            corrupt.add(path, media.MediaError(reason))
        for window in clips.windows:
            item, length = replace(window.item, split=part), config.sample_shape[0]
            yield Unit(item=item, source=source(item), start=window.start, length=length)


def _check_options(generator: Generator, options: EncodeOptions) -> None:
    """Raise `ValueError` for an option that says nothing about this kind of data."""
    rank = generator.vqvae.rank
    if rank != 3 and options.fps is not None:
        raise ValueError("fps is for video; this model is for " + ("sound", "images")[rank - 1])
    if rank == 1 and (options.size is not None or options.fit != "crop"):
        raise ValueError("size and fit are for pictures; this model is for sound")


def _size(generator: Generator, options: EncodeOptions) -> tuple[int, int] | None:
    """The size of pictures, checked against the strides."""
    if generator.vqvae.rank == 1:
        return None
    height, width = options.size or generator.sample_shape[-2:]  # type: ignore[index]
    grid_shape((height, width), generator.vqvae.downsampling[-2:])
    return height, width


def _shards(whole: Shard, each: int) -> Iterator[Shard]:
    number = -(-len(whole.units) // each)
    for index in range(number):
        units = whole.units[index * each : (index + 1) * each]
        path = whole.path / f"codes-{index:05d}-of-{number:05d}.safetensors"
        yield replace(whole, units=units, path=path)


def _plan(
    generator: Generator,
    units: Sequence[Unit],
    size: tuple[int, int] | None,
    options: EncodeOptions,
) -> dict[str, Any]:
    """All that decides what the code files hold."""
    files = {unit.source: unit.item for unit in units}
    clips = [
        (u.source, u.start, u.length, u.item.split, u.item.class_name, u.item.speaker)
        for u in units
    ]
    return {
        "plan_version": PLAN_VERSION,
        "tokenizer": generator.vqvae.fingerprint(),
        "prior": coder_of(generator).fingerprint if options.compress else None,
        "size": None if size is None else list(size),
        "fit": options.fit,
        "fps": options.fps,
        "clip_step": options.clip_step,
        "clips": hashlib.sha256(repr(clips).encode()).hexdigest(),
        "files": {source: _state(item) for source, item in files.items()},
    }


def _state(item: Item) -> list[int]:
    """Size and time of a file, and of its actions: other ones tell that it changed."""
    paths = [item.path, *([item.actions] if item.actions else [])]
    return [n for path in paths for n in (path.stat().st_size, path.stat().st_mtime_ns)]


def _check_plan(target: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Go on with what the same plan began; anything else must be overwritten by name."""
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


def _figures(
    shards: Sequence[Shard], corrupt: CorruptFiles, total: Bits, compressed: bool
) -> dict[str, Any]:
    """Of all code files, and what this run can say about sizes."""
    figures: dict[str, Any] = {
        "code_files": len(shards),
        "clips": sum(len(CodeFile(shard.path)) for shard in shards),
        "corrupt": len(corrupt.list()),
    }
    if total.seconds:
        figures["bits_per_second"] = round(total.stored / total.seconds, 1)
    if total.seconds and compressed:
        figures["bits_per_second_packed"] = round(total.packed / total.seconds, 1)
        figures["bits_per_second_zstd"] = round(total.zstd / total.seconds, 1)
    return figures
