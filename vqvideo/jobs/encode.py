"""`vqvideo encode`: a folder of media files as code files.

The work is cut into shards, one code file each, decided by the list of files alone: `encode.json`
in the output keeps that list and the settings. A shard whose file exists is done, so a run that was
stopped goes on where it was, and any number of processes makes the same files (as far as torch's
sums do not depend on the number of threads, which may round a number in a million otherwise).
"""

from __future__ import annotations

import math
import os
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from vqvideo import media
from vqvideo.data.clips import SUFFIXES, ClipDataset
from vqvideo.data.codes import TEMPORARY, CodeFile
from vqvideo.data.corrupt import CorruptFiles
from vqvideo.data.items import items_of, list_items
from vqvideo.data.metadata import VIDEO_SUFFIXES, Item, Split
from vqvideo.generator import Generator
from vqvideo.grid import grid_shape
from vqvideo.jobs import cluster, processes
from vqvideo.jobs.compress import coder_of
from vqvideo.jobs.encode_plan import check_plan, plan
from vqvideo.jobs.encode_shard import Bits, Shard, Unit, encode_shard
from vqvideo.jobs.model import from_anywhere, open_model
from vqvideo.jobs.processes import Report, counting
from vqvideo.media.pixels import Fit

Engine = Literal["processes", "ray"]
SPLITS: tuple[Split, ...] = ("train", "test")
PER_SHARD = {"files": 16, "windows": 256}
MOST_SHARDS = 10_000  # then they get larger: who trains on codes has all files open


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
        num_processes: shards worked on at once, each with an equal share of the cores.
        engine: "processes" of this machine, or "ray": workers of all machines of a Ray cluster,
            which must see the folders under the same paths.
        max_corrupt: which share of the files may be unreadable and left out. Of fewer than 100
            files, the default allows none.
        device: see `open_model`; under Ray, "auto" takes a GPU where the cluster has any.
        overwrite: begin anew, whatever an earlier run left.
    """

    clip_step: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    fps: float | None = None
    compress: bool = False
    num_processes: int = 1
    engine: Engine = "processes"
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
        if self.engine not in get_args(Engine):
            known = " or ".join(map(repr, get_args(Engine)))
            raise ValueError(f"engine must be {known}, got {self.engine!r}")
        if self.engine == "ray" and ":" in self.device:
            raise ValueError(
                f"device must be 'auto', 'cpu' or 'cuda' for the engine 'ray', which gives each "
                f"worker a GPU of its own, got {self.device!r}"
            )


class Done(NamedTuple):
    """What a shard came to, as whoever wrote it says: others may not see its file at once."""

    clips: int
    corrupt: dict[str, str]
    bits: Bits


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
        ImportError: the engine "ray" without Ray.
        RuntimeError: a process was killed; by Ray only after several attempts.
    """
    options = options or EncodeOptions()
    if options.engine == "ray":
        cluster.import_ray()
        folder, out, model = os.path.abspath(folder), os.path.abspath(out), from_anywhere(model)
    generator = open_model(model, options.device)
    _check_options(generator, options)
    items = list_items(folder, SUFFIXES[generator.vqvae.rank])
    corrupt = CorruptFiles([item.path for item in items], options.max_corrupt)
    units = list(_units(generator, folder, items, options, corrupt))
    for _, reason in corrupt.list():
        warn(f"left out: {reason}")
    shards = _planned(generator, model, Path(out), units, options)

    clips, total = 0, Bits()

    def count(done: Done) -> None:
        """Count what a shard came to, in an earlier run too; stops at too many corrupt files."""
        nonlocal clips, total
        clips, total = clips + done.clips, total.plus(done.bits)
        for source, reason in done.corrupt.items():
            if corrupt.add(Path(folder) / source, media.MediaError(reason)):
                warn(f"left out: {reason}")

    waiting = []
    for shard in shards:
        if shard.path.is_file():
            count(_done(shard, Bits()))
        else:
            waiting.append(shard)
    sizes = [len(shard.units) for shard in waiting]
    report = counting(progress, len(units) - sum(sizes), len(units))
    try:
        with closing(_work_off(waiting, sizes, options, report)) as finished:
            for done in finished:
                count(done)
    finally:
        for left in Path(out).glob(TEMPORARY):  # of workers that were killed as they wrote
            left.unlink(missing_ok=True)
    figures = {"code_files": len(shards), "clips": clips, "corrupt": len(corrupt.list())}
    return [shard.path for shard in shards], figures | _rates(total, options.compress)


def _work_off(
    waiting: Sequence[Shard], sizes: Sequence[int], options: EncodeOptions, report: Report
) -> abc.Generator[Done, None, None]:
    """What each shard comes to, when it is done."""
    number = options.num_processes
    if options.engine == "ray":
        use_gpus = options.device != "cpu"
        yield from cluster.work_off(_one, waiting, sizes, number, report, use_gpus=use_gpus)
    else:
        yield from processes.work_off(_one, waiting, sizes, number, report)


def _planned(
    generator: Generator, model: str, target: Path, units: Sequence[Unit], options: EncodeOptions
) -> list[Shard]:
    """The shards of a run, after its plan was compared with what is there, and written."""
    size = _size(generator, options)
    settings = {
        "tokenizer": generator.vqvae.fingerprint(),
        "prior": coder_of(generator).fingerprint if options.compress else None,
        "size": None if size is None else list(size),
        "fit": options.fit,
        "fps": options.fps,
        "clip_step": options.clip_step,
    }
    check_plan(target, plan(units, settings), options.overwrite)
    threads = max(1, (os.cpu_count() or 1) // options.num_processes)
    is_shared = options.engine == "processes" and options.num_processes > 1
    whole = Shard(
        path=target,
        units=tuple(units),
        model=model,
        size=size,
        fit=options.fit,
        fps=options.fps,
        compress=options.compress,
        device=options.device,
        num_threads=threads if is_shared else None,
    )
    has_files = any(unit.length is None for unit in units)
    return list(_shards(whole, PER_SHARD["files" if has_files else "windows"]))


def _one(shard: Shard, report: Report) -> Done:
    return _done(shard, encode_shard(shard, report))


def _done(shard: Shard, bits: Bits) -> Done:
    file = CodeFile(shard.path)
    return Done(len(file), file.corrupt, bits)


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
            whole = Unit(item=replace(item, split=split), source=source(item))
            yield from _frames(whole, corrupt) if generator.vqvae.rank == 2 else [whole]
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
        # One item for all windows of a file: of millions of windows it would be most of the memory.
        for item, windows in groupby(clips.windows, key=attrgetter("item")):
            own, name = replace(item, split=part), source(item)
            for window in windows:
                length = config.sample_shape[0]
                yield Unit(item=own, source=name, start=window.start, length=length)


def _frames(whole: Unit, corrupt: CorruptFiles) -> Iterator[Unit]:
    """Windows of one frame, for a model of images: those of a video, or an image."""
    path = whole.item.path
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield replace(whole, length=1)
        return
    try:
        number = media.probe(path).num_frames
    except media.MediaError as error:
        corrupt.add(path, error)
        return
    for start in range(number):
        yield replace(whole, start=start, length=1)


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
    each = max(each, -(-len(whole.units) // MOST_SHARDS))
    number = -(-len(whole.units) // each)
    for index in range(number):
        units = whole.units[index * each : (index + 1) * each]
        path = whole.path / f"codes-{index:05d}-of-{number:05d}.safetensors"
        yield replace(whole, units=units, path=path)


def _rates(total: Bits, compressed: bool) -> dict[str, float]:
    """What this run can say about sizes."""
    if not total.seconds:
        return {}
    named = {"bits_per_second": total.stored}
    if compressed:
        named |= {"bits_per_second_packed": total.packed, "bits_per_second_zstd": total.zstd}
    return {name: round(bits / total.seconds, 1) for name, bits in named.items()}
