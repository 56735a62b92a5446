"""`vqvideo encode`: encode a folder of media files into code files.

The work is split into shards, one code file each, determined by the list of files alone:
`encode.json` in the output stores that list and the settings. A shard whose file exists is done, so
an interrupted run resumes, and any number of processes writes the same files (up to rounding:
torch's sums depend on the number of threads, which may round one number in a million differently).
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
from vqvideo.commands import process_pool, ray_pool
from vqvideo.commands.compress import build_coder
from vqvideo.commands.encode_plan import build_plan, check_plan
from vqvideo.commands.encode_shard import BitCount, Shard, Unit, encode_shard
from vqvideo.commands.model import load_model, resolve_model_path
from vqvideo.commands.process_pool import Advance, build_progress_callback
from vqvideo.data.clips import SUFFIXES_BY_RANK, ClipDataset
from vqvideo.data.codes import TEMPORARY_PATTERN, CodeFile
from vqvideo.data.corrupt_files import CorruptFiles, wrap_read_errors
from vqvideo.data.items import list_items, select_split
from vqvideo.data.metadata import Item, Split
from vqvideo.generator import Generator
from vqvideo.grid import compute_grid_shape
from vqvideo.media.formats import VIDEO_SUFFIXES
from vqvideo.media.pixels import Fit

Engine = Literal["processes", "ray"]
SPLITS: tuple[Split, ...] = ("train", "test")
UNITS_PER_SHARD = {"files": 16, "windows": 256}
MAX_SHARDS = 10_000  # beyond it shards grow: training on codes keeps all files open


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        clip_stride: split files into windows of the model's shape whose starts are this many frames
            or audio samples apart, and encode each by itself; None encodes each file as one clip,
            in constant memory.
        size: (height, width) to which frames are resized; None for the size of the model.
        fit: see `vqvideo.media.read_video`.
        fps: resample clips to this frame rate, for a model trained so; None keeps the rate of each
            file.
        compress: compress the codes under the model's prior.
        num_processes: shards encoded at the same time, each with an equal share of the CPU cores.
        engine: "processes" on this machine, or "ray": workers on all machines of a Ray cluster,
            which must see the folders under the same paths.
        max_corrupt: largest fraction of unreadable files that are skipped without an error. With
            fewer than 100 files, the default allows none.
        device: see `load_model`; with Ray, "auto" takes a GPU if the cluster has any.
        overwrite: start over and replace the code files of an earlier run.
    """

    clip_stride: int | None = None
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
        for name in ("clip_stride", "num_processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.max_corrupt <= 1:
            raise ValueError(f"max_corrupt must be a fraction from 0 to 1, got {self.max_corrupt}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number of frames per second, got {self.fps}")
        if self.engine not in get_args(Engine):
            known = " or ".join(map(repr, get_args(Engine)))
            raise ValueError(f"engine must be {known}, got {self.engine!r}")
        if self.engine == "ray" and ":" in self.device:
            raise ValueError(
                f"device must be 'auto', 'cpu' or 'cuda' for the engine 'ray', which assigns each "
                f"worker its own GPU, got {self.device!r}"
            )


class ShardResult(NamedTuple):
    """Result of a shard, reported by its worker: others may not see the file immediately."""

    num_clips: int
    corrupt: dict[str, str]
    bits: BitCount


def encode(
    folder: str,
    out: str,
    *,
    model: str = "video",
    options: EncodeOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> tuple[list[Path], dict[str, Any]]:
    """Encode a folder; return the code files and metrics of this run.

    Args:
        folder: folder of media files, with or without a `metadata.jsonl`.
        out: folder for the code files; shards finished by an earlier run are not encoded again.
        model: see `load_model`.
        options: see `EncodeOptions`; None for the defaults.
        progress: called with (files or windows done, total).
        warn: called with a message about each file that cannot be read.

    Raises:
        ValueError: there is nothing to encode, an option does not apply to this kind of data, or
            `out` has codes of other files or settings.
        media.MediaError: too many files cannot be read.
        ImportError: the engine is "ray" and Ray is not installed.
        RuntimeError: a process was killed; with Ray only after several attempts.
    """
    options = options or EncodeOptions()
    if options.engine == "ray":
        ray_pool.import_ray()
        folder, out, model = (
            os.path.abspath(folder),
            os.path.abspath(out),
            resolve_model_path(model),
        )
    generator = load_model(model, options.device)
    _check_options(generator, options)
    items = list_items(folder, SUFFIXES_BY_RANK[generator.vqvae.rank])
    corrupt = CorruptFiles([item.path for item in items], options.max_corrupt)
    units = list(_iter_units(generator, folder, items, options, corrupt))
    for _, reason in corrupt.to_list():
        warn(f"skipped: {reason}")
    shards = _plan_shards(generator, model, Path(out), units, options)

    clips, total = 0, BitCount()

    def count(result: ShardResult) -> None:
        """Add the result of a shard to the totals; raise on too many corrupt files."""
        nonlocal clips, total
        clips, total = clips + result.num_clips, total.add(result.bits)
        for source, reason in result.corrupt.items():
            if corrupt.add(Path(folder) / source, media.MediaError(reason)):
                warn(f"skipped: {reason}")

    pending = []
    for shard in shards:
        if shard.path.is_file():
            count(_summarize_shard(shard, BitCount()))
        else:
            pending.append(shard)
    sizes = [len(shard.units) for shard in pending]
    report = build_progress_callback(progress, len(units) - sum(sizes), len(units))
    try:
        with closing(_run_shards(pending, sizes, options, report)) as results:
            for result in results:
                count(result)
    finally:
        for temporary in Path(out).glob(TEMPORARY_PATTERN):  # left by killed workers
            temporary.unlink(missing_ok=True)
    metrics = {"code_files": len(shards), "clips": clips, "corrupt": len(corrupt.to_list())}
    return [shard.path for shard in shards], metrics | _compute_bitrates(total, options.compress)


def _run_shards(
    pending: Sequence[Shard], sizes: Sequence[int], options: EncodeOptions, advance: Advance
) -> abc.Generator[ShardResult, None, None]:
    """Yield the result of each shard when it is done."""
    num_processes = options.num_processes
    if options.engine == "ray":
        use_gpus = options.device != "cpu"
        yield from ray_pool.run_tasks(
            _process_shard, pending, sizes, num_processes, advance, use_gpus=use_gpus
        )
    else:
        yield from process_pool.run_tasks(_process_shard, pending, sizes, num_processes, advance)


def _plan_shards(
    generator: Generator, model: str, target: Path, units: Sequence[Unit], options: EncodeOptions
) -> list[Shard]:
    """Return the shards of a run; check its plan against the existing one, and write it."""
    size = _resolve_size(generator, options)
    settings = {
        "tokenizer": generator.vqvae.fingerprint(),
        "prior": build_coder(generator).fingerprint if options.compress else None,
        "size": None if size is None else list(size),
        "fit": options.fit,
        "fps": options.fps,
        "clip_stride": options.clip_stride,
    }
    check_plan(target, build_plan(units, settings), options.overwrite)
    num_threads = max(1, (os.cpu_count() or 1) // options.num_processes)
    is_shared = options.engine == "processes" and options.num_processes > 1
    template = Shard(
        path=target,
        units=tuple(units),
        model=model,
        size=size,
        fit=options.fit,
        fps=options.fps,
        compress=options.compress,
        device=options.device,
        num_threads=num_threads if is_shared else None,
    )
    has_files = any(unit.length is None for unit in units)
    return list(_split_shards(template, UNITS_PER_SHARD["files" if has_files else "windows"]))


def _process_shard(shard: Shard, advance: Advance) -> ShardResult:
    return _summarize_shard(shard, encode_shard(shard, advance))


def _summarize_shard(shard: Shard, bits: BitCount) -> ShardResult:
    file = CodeFile(shard.path)
    return ShardResult(len(file), file.corrupt, bits)


def _iter_units(
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


def _check_options(generator: Generator, options: EncodeOptions) -> None:
    """Raise `ValueError` for an option that does not apply to this kind of data."""
    rank = generator.vqvae.rank
    if rank != 3 and options.fps is not None:
        raise ValueError("fps is for video; this model is for " + ("audio", "images")[rank - 1])
    if rank == 1 and (options.size is not None or options.fit != "crop"):
        raise ValueError("size and fit are for images and video; this model is for audio")


def _resolve_size(generator: Generator, options: EncodeOptions) -> tuple[int, int] | None:
    """Return (height, width) of the frames, checked against the strides; None for audio."""
    if generator.vqvae.rank == 1:
        return None
    height, width = options.size or generator.sample_shape[-2:]  # type: ignore[index]
    compute_grid_shape((height, width), generator.vqvae.downsampling[-2:])
    return height, width


def _split_shards(template: Shard, shard_size: int) -> Iterator[Shard]:
    """Yield shards of at most `shard_size` units, larger if there would be over `MAX_SHARDS`."""
    shard_size = max(shard_size, -(-len(template.units) // MAX_SHARDS))
    num_shards = -(-len(template.units) // shard_size)
    for index in range(num_shards):
        units = template.units[index * shard_size : (index + 1) * shard_size]
        path = template.path / f"codes-{index:05d}-of-{num_shards:05d}.safetensors"
        yield replace(template, units=units, path=path)


def _compute_bitrates(total: BitCount, is_compressed: bool) -> dict[str, float]:
    """Return the bit rates of this run; empty if it encoded nothing that has a duration."""
    if not total.seconds:
        return {}
    num_bits = {"bits_per_second": total.stored}
    if is_compressed:
        num_bits |= {"bits_per_second_packed": total.packed, "bits_per_second_zstd": total.zstd}
    return {name: round(bits / total.seconds, 1) for name, bits in num_bits.items()}
