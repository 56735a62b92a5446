"""`vqvideo encode`: a folder of media files as code files.

The work is cut into shards, one code file each, decided by the list of files alone: `encode.json`
in the output keeps that list and the settings. A shard whose file exists is done, so a run that was
stopped goes on where it was, and any number of processes makes the same files.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqvideo.data.clips import SUFFIXES
from vqvideo.data.codes import PATTERN, CodeFile
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import Item, Split
from vqvideo.data.readers import Fit
from vqvideo.generator import Generator
from vqvideo.grid import grid_shape
from vqvideo.jobs.encode_shard import Encoded, Shard, Unit, coder_of, encode_shard
from vqvideo.jobs.model import open_model
from vqvideo.jobs.train_vqvae import windows
from vqvideo.media.files import output_file

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
        ValueError: nothing to encode; `out` holds codes of other files or settings; too many
            damaged files.
    """
    options = options or EncodeOptions()
    generator = open_model(model, options.device)
    size = _size(generator, options)
    units = list(_units(generator, folder, options))
    target = Path(out)
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
    shards = list(_shards(whole, PER_SHARD["windows" if options.clip_step else "files"]))
    waiting = [shard for shard in shards if not shard.path.is_file()]
    done = len(units) - sum(len(shard.units) for shard in waiting)
    total = Encoded(0, (), 0.0, 0, 0, 0)

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, len(units))

    for encoded in _run(waiting, options.num_processes, report):
        for sentence in encoded.corrupt:
            warn(f"left out: {sentence}")
        total = total.plus(encoded)
        _check_corrupt(total, len({unit.source for unit in units}), options.max_corrupt)
    return [shard.path for shard in shards], _figures(shards, total, options.compress)


def _run(
    shards: Sequence[Shard], processes: int, report: Callable[[int], None]
) -> Iterator[Encoded]:
    """Work shards off; `report` is called with how many units more are done."""
    if processes == 1:
        for shard in shards:
            yield encode_shard(shard, report)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy threads of torch midway
    with ProcessPoolExecutor(min(processes, max(1, len(shards))), mp_context=context) as pool:
        waiting = {pool.submit(encode_shard, shard): shard for shard in shards}
        try:
            for future in as_completed(waiting):
                yield future.result()
                report(len(waiting[future].units))
        except BrokenProcessPool as cause:
            raise RuntimeError(
                "a process was killed, perhaps for want of memory; the same command goes on with "
                "what is missing, perhaps with fewer processes"
            ) from cause
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _units(generator: Generator, folder: str, options: EncodeOptions) -> Iterator[Unit]:
    rank = generator.vqvae.rank

    def source(item: Item) -> str:
        return item.path.relative_to(folder).as_posix()

    if options.clip_step is None:
        items = list_items(folder, SUFFIXES[rank])
        _check_actions(items, options.fps)
        test = {item.path for item in items_of(items, "test")} if len(items) > 1 else set()
        for item in items:
            split: Split = "test" if item.path in test else "train"
            yield Unit(item=replace(item, split=split), source=source(item))
        return
    for part in SPLITS:
        clips = windows(
            folder,
            generator,
            part,
            options.clip_step,
            fps=options.fps,
            max_corrupt=options.max_corrupt,
        )
        for window in clips.windows:
            item = replace(window.item, split=part)
            length = generator.config.sample_shape[0]
            yield Unit(item=item, source=source(item), start=window.start, length=length)


def _check_actions(items: Sequence[Item], fps: float | None) -> None:
    if fps is not None and any(item.actions for item in items):
        raise ValueError(
            f"actions belong to the frames of a file, which fps={fps:g} leaves out or repeats; "
            "leave fps out, or the actions out of metadata.jsonl"
        )


def _check_corrupt(total: Encoded, num_files: int, allowed: float) -> None:
    if len(total.corrupt) > allowed * num_files:
        raise ValueError(
            f"{len(total.corrupt)} of {num_files} files cannot be read, which is more than "
            f"max_corrupt={allowed:g} of them; mend or remove them, or allow more; the last: "
            f"{total.corrupt[-1]}"
        )


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
    files = {unit.source: unit.item.path for unit in units}
    stats = {source: path.stat() for source, path in files.items()}
    return {
        "plan_version": PLAN_VERSION,
        "tokenizer": generator.vqvae.fingerprint(),
        "prior": coder_of(generator).fingerprint if options.compress else None,
        "size": None if size is None else list(size),
        "fit": options.fit,
        "fps": options.fps,
        "clip_step": options.clip_step,
        "files": {source: [s.st_size, s.st_mtime_ns] for source, s in stats.items()},
    }


def _check_plan(target: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Go on with what the same plan began; anything else must be overwritten by name."""
    file = target / PLAN
    there = sorted(target.glob(PATTERN))
    if overwrite:
        for path in [file, *there]:
            path.unlink(missing_ok=True)
    elif file.is_file():
        earlier = json.loads(file.read_text())
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


def _figures(shards: Sequence[Shard], total: Encoded, compressed: bool) -> dict[str, Any]:
    """Of all code files, and what this run can say about sizes."""
    figures: dict[str, Any] = {
        "code_files": len(shards),
        "clips": sum(len(CodeFile(shard.path)) for shard in shards),
        "corrupt": len(total.corrupt),
    }
    if total.seconds:
        figures["bits_per_second"] = round(total.bits / total.seconds, 1)
    if total.seconds and compressed:
        figures["bits_per_second_packed"] = round(total.packed_bits / total.seconds, 1)
        figures["bits_per_second_zstd"] = round(total.zstd_bits / total.seconds, 1)
    return figures
