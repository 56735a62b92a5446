"""Encode a shard, a few files or windows of files, into one code file, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.compressed_codes import ConditionedClip, build_coder, compress
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.model import load_cached_model
from vqvideo.commands.process_pool import ignore_progress
from vqvideo.data.actions import read_frame_actions
from vqvideo.data.codes import CodeClip, CodeHeader, PackedClip, write_codes
from vqvideo.data.metadata import Item
from vqvideo.data.packing import pack_codes
from vqvideo.data.readers import AudioReader, ImageReader, Reader, VideoReader
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.media.files import wrap_read_errors

BATCH_SIZE = 16  # windows encoded together
ZSTD_LEVEL = 19


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """The source of one clip: a whole file, or a window of it.

    Attributes:
        item: the file.
        source: path of the file relative to the folder.
        start: first data step of a window.
        length: data steps of a window, 1 for a single image; None for the whole file.
    """

    item: Item
    source: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The units and settings of one code file.

    Attributes:
        path: path of the code file.
        units: sources of its clips.
        model: see `load_model`.
        size: (height, width) to which frames are resized; None for audio.
        options: options of the command.
        num_threads: number of torch threads in the worker process; None keeps the current number.
    """

    path: Path
    units: tuple[Unit, ...]
    model: str
    size: tuple[int, int] | None
    options: EncodeOptions
    num_threads: int | None = None

    def build_reader(self, generator: Generator) -> Reader:
        """Return a reader for the files of the shard."""
        if generator.vqvae.rank == 1:
            return AudioReader(int(generator.config.rate))
        assert self.size is not None
        if generator.vqvae.rank == 2:
            return ImageReader(self.size, self.options.fit)
        return VideoReader(self.size, self.options.fit, self.options.fps)


class BitCount(NamedTuple):
    """Sizes in bits of the codes of some data, and the duration of the data.

    Attributes:
        stored: size in the code file.
        packed: size after bit packing only.
        zstd: size of the packed codes under zstd; 0 without compression.
        seconds: duration of the data.
    """

    stored: int = 0
    packed: int = 0
    zstd: int = 0
    seconds: float = 0.0

    def add(self, other: BitCount) -> BitCount:
        """Return the sum of both counts."""
        return BitCount(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class EncodedClip(NamedTuple):
    """A clip with its actions, and its codes `[*grid(, s)]`."""

    item: ConditionedClip
    codes: Tensor


def encode_shard(shard: Shard, advance: Callable[[int], None]) -> BitCount:
    """Encode the units of a shard and write its code file, which also lists unreadable files.

    Args:
        shard: the shard; it may come from another process.
        advance: called with the number of units done since the last call.
    """
    if shard.num_threads:
        torch.set_num_threads(shard.num_threads)
    generator = load_cached_model(shard.model, shard.options.device)
    corrupt: dict[str, str] = {}
    # Compression takes most of the time, so only its progress is reported.
    report = ignore_progress if shard.options.compress else advance
    encoded = list(_encode_units(generator, shard, corrupt, report))
    quantizer = generator.vqvae.quantizer
    header = CodeHeader(
        codebook_size=quantizer.codebook_size,
        num_codebooks=quantizer.num_codebooks,
        downsampling=generator.vqvae.downsampling,
        fingerprint=generator.vqvae.fingerprint(),
    )
    packed = [pack_codes(clip.codes, header.bits) for clip in encoded]
    data, zstd = packed, 0
    if shard.options.compress:
        header, data = _compress_clips(
            generator, header, encoded, _scale_progress(advance, len(shard.units))
        )
        zstd = 8 * len(_compress_zstd(b"".join(packed)))
    clips = [
        PackedClip(each.item.clip, content, each.item.actions)
        for each, content in zip(encoded, data, strict=True)
    ]
    write_codes(shard.path, header, clips, corrupt)
    return BitCount(
        stored=8 * sum(map(len, data)),
        packed=8 * sum(map(len, packed)),
        zstd=zstd,
        seconds=sum(each.clip.length / each.clip.rate for each, _ in encoded if each.clip.rate),
    )


def _encode_units(
    generator: Generator, shard: Shard, corrupt: dict[str, str], advance: Callable[[int], None]
) -> Iterator[EncodedClip]:
    """Yield the encoded clips of a shard; windows, all of one shape, are encoded in batches."""
    vqvae, reader = generator.vqvae, shard.build_reader(generator)
    device = get_device(vqvae)
    batch: list[tuple[ConditionedClip, Tensor]] = []
    for unit in shard.units:
        try:
            if unit.length is None:
                yield _encode_file(generator, unit, reader)
            else:
                x = _read_window(unit, reader, unit.length)
                batch.append((_read_source(generator, unit, reader, x.shape[1]), x))
        except media.MediaError as error:
            corrupt.setdefault(unit.source, str(error))
        if batch and (len(batch) == BATCH_SIZE or unit is shard.units[-1]):
            codes = vqvae.encode(torch.stack([x for _, x in batch]).to(device)).cpu()
            for (source, _), clip_codes in zip(batch, codes, strict=True):
                yield _add_codes(source, clip_codes, vqvae.rank)
            batch.clear()
        advance(1)


def _encode_file(generator: Generator, unit: Unit, reader: Reader) -> EncodedClip:
    """Encode a video or audio file of any length; video is streamed, so only its codes are kept."""
    vqvae, path = generator.vqvae, unit.item.path
    if isinstance(reader, VideoReader) and reader.fps is None:
        _check_constant_frame_rate(path)
    length = reader.compute_length(reader.measure(path))
    source = _read_source(generator, unit, reader, length)
    device = get_device(vqvae)
    chunks = (chunk[None].to(device) for chunk in reader.iter_chunks(path, length))
    codes = torch.cat([codes.cpu() for codes in vqvae.encode_stream(chunks)], dim=1)[0]
    return _add_codes(source, codes, vqvae.rank)


def _read_window(unit: Unit, reader: Reader, length: int) -> Tensor:
    """Return the data `[c, *axes]` of a window."""
    if isinstance(reader, ImageReader):
        return reader.read(unit.item.path, unit.start, unit.start + 1)[:, 0]
    return reader.read(unit.item.path, unit.start, unit.start + length)


def _check_constant_frame_rate(path: Path) -> None:
    """Raise `MediaError` if the frame times of a video deviate from a constant rate."""
    info = _probe(path)
    expected_times = (n / info.fps for n in range(info.num_frames))
    max_error = max(
        abs(t - info.pts_seconds[0] - expected)
        for t, expected in zip(info.pts_seconds, expected_times, strict=True)
    )
    if max_error > 0.5 / info.fps:
        raise media.MediaError(
            f"{path} has a variable frame rate: frame times deviate by up to {max_error:.2g} s "
            f"from the average rate, and codes do not store them; give fps to resample it"
        )


def _probe(path: Path) -> media.VideoInfo:
    with wrap_read_errors(path):
        return media.probe(path)


def _read_source(generator: Generator, unit: Unit, reader: Reader, length: int) -> ConditionedClip:
    """Read metadata, still without a grid, and actions of a clip of `length` data steps."""
    rank, item = generator.vqvae.rank, unit.item
    rate = {1: generator.config.rate, 2: 0.0}.get(rank)
    if isinstance(reader, VideoReader):
        rate = reader.fps or _probe(item.path).fps
    assert rate is not None
    clip = CodeClip(
        source=unit.source,
        start=unit.start,
        length=length,
        grid=(),
        rate=rate,
        split=item.split,
        class_name=item.class_name,
        speaker=item.speaker,
    )
    actions_file = item.actions if rank != 2 else None  # actions lead from frame to frame
    with wrap_read_errors(item.path):
        actions = read_frame_actions(actions_file, unit.start, length) if actions_file else None
    return ConditionedClip(clip, actions)


def _add_codes(source: ConditionedClip, codes: Tensor, rank: int) -> EncodedClip:
    """Return a clip with its codes `[*grid(, s)]`; `rank` is the number of grid axes."""
    clip = replace(source.clip, grid=tuple(codes.shape[:rank]))
    return EncodedClip(ConditionedClip(clip, source.actions), codes)


def _scale_progress(advance: Callable[[int], None], num_units: int) -> Callable[[int, int], None]:
    """Return a callback for (done, total) that reports the increase in units to `advance`."""
    reported = 0

    def progress(done: int, total: int) -> None:
        nonlocal reported
        current = num_units * done // total
        advance(current - reported)
        reported = current

    return progress


def _compress_clips(
    generator: Generator,
    header: CodeHeader,
    clips: list[EncodedClip],
    progress: Callable[[int, int], None],
) -> tuple[CodeHeader, list[bytes]]:
    coder = build_coder(generator)
    segment = generator.vqvae.compute_grid_shape(generator.config.sample_shape)[0]
    items, codes = [clip.item for clip in clips], [clip.codes for clip in clips]
    data = compress(coder, segment, items, codes, progress)
    return replace(header, coder=coder.fingerprint, segment=segment), data


def _compress_zstd(data: bytes) -> bytes:
    import zstandard  # installed with the compression extra

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
