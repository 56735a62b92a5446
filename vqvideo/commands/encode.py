"""`vqvideo encode`: encode a folder of media files into code files.

The work is split into shards, one code file each, determined by the list of files alone:
`encode.json` in the output stores that list and the settings. A shard whose file exists is done, so
an interrupted run resumes, and any number of processes writes the same files (up to rounding:
torch's sums depend on the number of threads, which may round one number in a million differently).
"""

from __future__ import annotations

import os
from collections import abc
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vqvideo import media
from vqvideo.atomic import remove_abandoned
from vqvideo.commands import process_pool, ray_pool
from vqvideo.commands.compressed_codes import build_coder
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.encode_plan import (
    build_plan,
    check_plan,
    iter_units,
    split_shards,
)
from vqvideo.commands.encode_shard import BitCount, Shard, Unit, encode_shard
from vqvideo.commands.model import load_model, resolve_model_path
from vqvideo.commands.process_pool import Advance, build_progress_callback
from vqvideo.data.clips import SUFFIXES_BY_RANK
from vqvideo.data.codes import CodeFile
from vqvideo.data.corrupt_files import CorruptFiles
from vqvideo.data.items import list_items
from vqvideo.generator import Generator
from vqvideo.grid import compute_grid_shape

UNITS_PER_SHARD = {"files": 16, "windows": 256}


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
    units = list(iter_units(generator, folder, items, options, corrupt))
    for _, reason in corrupt.to_list():
        warn(f"skipped: {reason}")
    tokenizer, size = generator.vqvae.fingerprint(), _resolve_size(generator, options)
    settings = {
        "tokenizer": tokenizer,
        "prior": build_coder(generator).fingerprint if options.compress else None,
        "size": None if size is None else list(size),
        "fit": options.fit,
        "fps": options.fps,
        "clip_stride": options.clip_stride,
    }
    check_plan(Path(out), build_plan(units, settings), options.overwrite)
    shards = _plan_shards(model, Path(out), units, size, options)
    done, pending = list[Shard](), list[Shard]()
    for shard in shards:
        (done if shard.path.is_file() else pending).append(shard)
    num_done = sum(len(shard.units) for shard in done)
    report = build_progress_callback(progress, num_done, len(units))
    clips, total = 0, BitCount()
    try:
        with closing(_run_shards(pending, options, report)) as new_results:
            old_results = (_read_result(shard, tokenizer) for shard in done)
            for result in chain(old_results, new_results):
                clips, total = clips + result.num_clips, total.add(result.bits)
                for source, reason in result.corrupt.items():
                    if corrupt.add(Path(folder) / source, media.MediaError(reason)):
                        warn(f"skipped: {reason}")
    finally:
        remove_abandoned(out)  # left by killed workers
    metrics = {"code_files": len(shards), "clips": clips, "corrupt": len(corrupt.to_list())}
    return [shard.path for shard in shards], metrics | _compute_bitrates(total, options.compress)


def _run_shards(
    pending: Sequence[Shard], options: EncodeOptions, advance: Advance
) -> abc.Generator[ShardResult, None, None]:
    """Yield the result of each shard when it is done."""
    num_processes, sizes = options.num_processes, [len(shard.units) for shard in pending]
    if options.engine == "ray":
        use_gpus = options.device != "cpu"
        yield from ray_pool.run_tasks(
            _process_shard, pending, sizes, num_processes, advance, use_gpus=use_gpus
        )
    else:
        yield from process_pool.run_tasks(_process_shard, pending, sizes, num_processes, advance)


def _plan_shards(
    model: str,
    target: Path,
    units: Sequence[Unit],
    size: tuple[int, int] | None,
    options: EncodeOptions,
) -> list[Shard]:
    """Return the shards of a run."""
    num_threads = max(1, (os.cpu_count() or 1) // options.num_processes)
    is_shared = options.engine == "processes" and options.num_processes > 1
    template = Shard(
        path=target,
        units=tuple(units),
        model=model,
        size=size,
        options=options,
        num_threads=num_threads if is_shared else None,
    )
    has_files = any(unit.length is None for unit in units)
    return list(split_shards(template, UNITS_PER_SHARD["files" if has_files else "windows"]))


def _process_shard(shard: Shard, advance: Advance) -> ShardResult:
    """Encode a shard in a worker process."""
    bits = encode_shard(shard, advance)
    file = CodeFile(shard.path)
    return ShardResult(len(file), file.corrupt, bits)


def _read_result(shard: Shard, tokenizer: str) -> ShardResult:
    """Return the result of a shard that an earlier run finished.

    Raises:
        FileExistsError: the code file has other clips than the shard, or codes of another model.
    """
    file, own = CodeFile(shard.path), {(unit.source, unit.start) for unit in shard.units}
    is_own = all((clip.source, clip.start) in own for clip in file.clips)
    if not is_own or file.header.fingerprint != tokenizer:
        raise FileExistsError(
            f"{shard.path} exists, but not with the codes of this run; give another folder or "
            f"--overwrite"
        )
    return ShardResult(len(file), file.corrupt, BitCount())


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


def _compute_bitrates(total: BitCount, is_compressed: bool) -> dict[str, float]:
    """Return the bit rates of this run; empty if it encoded nothing that has a duration."""
    if not total.seconds:
        return {}
    num_bits = {"bits_per_second": total.stored}
    if is_compressed:
        num_bits |= {"bits_per_second_packed": total.packed, "bits_per_second_zstd": total.zstd}
    return {name: round(bits / total.seconds, 1) for name, bits in num_bits.items()}
