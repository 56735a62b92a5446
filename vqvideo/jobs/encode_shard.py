"""A few files, or windows of files, as one code file: what one process does of `vqvideo encode`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.data.actions import read_actions
from vqvideo.data.codes import CodeClip, CodeHeader, Packed, write_codes
from vqvideo.data.metadata import Item
from vqvideo.data.packing import pack
from vqvideo.data.readers import ImageReader, Reader, SoundReader, VideoReader
from vqvideo.generator import Generator
from vqvideo.jobs.compress import Told, coder_of, compress
from vqvideo.jobs.model import opened_model
from vqvideo.jobs.processes import silent
from vqvideo.media.pixels import Fit

AT_ONCE = 16  # windows encoded together
ZSTD_LEVEL = 19


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What becomes one clip: a whole file, or a window of it.

    Attributes:
        item: the file.
        source: its name relative to the folder.
        start: where a window begins.
        length: data steps of a window, 1 of a single picture; None is the whole file.
    """

    item: Item
    source: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What becomes one code file.

    Attributes:
        path: the code file.
        units: its clips.
        model: see `open_model`.
        size: (height, width) to which pictures are brought; None for sound.
        fit: see `media.read_video`.
        fps: frames per second of the clips; None keeps those of each file.
        compress: whether codes are compressed under the model's prior.
        device: see `open_model`.
        num_threads: of torch, in the process that works; None leaves them.
    """

    path: Path
    units: tuple[Unit, ...]
    model: str
    size: tuple[int, int] | None
    fit: Fit
    fps: float | None
    compress: bool
    device: str
    num_threads: int | None = None

    def reader(self, generator: Generator) -> Reader:
        """What reads its files."""
        if generator.vqvae.rank == 1:
            return SoundReader(int(generator.config.rate))
        assert self.size is not None
        if generator.vqvae.rank == 2:
            return ImageReader(self.size, self.fit)
        return VideoReader(self.size, self.fit, self.fps)


class Bits(NamedTuple):
    """How much the codes of some data take: as they stand in the file, packed only, and after zstd
    of the packed ones (0 where nothing was compressed); and how many seconds the data is long.
    """

    stored: int = 0
    packed: int = 0
    zstd: int = 0
    seconds: float = 0.0

    def plus(self, other: Bits) -> Bits:
        """Both together."""
        return Bits(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class Encoded(NamedTuple):
    """A clip, its codes `[*grid(, s)]` and its actions."""

    clip: CodeClip
    codes: Tensor
    actions: Tensor | None


def encode_shard(shard: Shard, report: Callable[[int], None]) -> Bits:
    """Encode the units of a shard and write its code file; what cannot be read is named there.

    Args:
        shard: may come from another process.
        report: called with a number of units whenever so many are done.
    """
    if shard.num_threads:
        torch.set_num_threads(shard.num_threads)
    generator = opened_model(shard.model, shard.device)
    corrupt: dict[str, str] = {}
    # Where compressing takes the time, encoding is no progress to speak of.
    found = list(_encoded(generator, shard, corrupt, silent if shard.compress else report))
    quantizer = generator.vqvae.quantizer
    header = CodeHeader(
        codebook_size=quantizer.codebook_size,
        num_codebooks=quantizer.num_codebooks,
        downsampling=generator.vqvae.downsampling,
        fingerprint=generator.vqvae.fingerprint(),
    )
    packed = [pack(each.codes, header.bits) for each in found]
    data, zstd = packed, 0
    if shard.compress:
        header, data = _compressed(generator, header, found, _in_units(report, len(shard.units)))
        zstd = 8 * len(_zstd(b"".join(packed)))
    clips = [Packed(e.clip, d, e.actions) for e, d in zip(found, data, strict=True)]
    write_codes(shard.path, header, clips, corrupt)
    return Bits(
        stored=8 * sum(map(len, data)),
        packed=8 * sum(map(len, packed)),
        zstd=zstd,
        seconds=sum(e.clip.length / e.clip.rate for e in found if e.clip.rate),
    )


def _encoded(
    generator: Generator, shard: Shard, corrupt: dict[str, str], report: Callable[[int], None]
) -> Iterator[Encoded]:
    """The clips of a shard; windows, all of one shape, several at a time."""
    vqvae, reader = generator.vqvae, shard.reader(generator)
    device = next(vqvae.parameters()).device
    batch: list[tuple[Unit, Tensor]] = []
    for unit in shard.units:
        try:
            if unit.length is None:
                yield _whole(generator, unit, reader)
            else:
                batch.append((unit, _window(unit, reader, unit.length)))
        except media.MediaError as error:
            corrupt.setdefault(unit.source, str(error))
        if batch and (len(batch) == AT_ONCE or unit is shard.units[-1]):
            codes = vqvae.encode(torch.stack([x for _, x in batch]).to(device)).cpu()
            for (each, x), some in zip(batch, codes, strict=True):
                yield _said(generator, each, reader, x.shape[1], some)
            batch.clear()
        report(1)


def _whole(generator: Generator, unit: Unit, reader: Reader) -> Encoded:
    """A video or sound of any length; of video, only its codes are in memory at once."""
    vqvae, length, path = generator.vqvae, 0, unit.item.path
    if isinstance(reader, VideoReader) and reader.fps is None:
        _check_even(path)

    def pieces() -> Iterator[Tensor]:
        nonlocal length
        for piece in reader.pieces(path, reader.length(reader.measure(path))):
            length += piece.shape[1]
            yield piece[None].to(next(vqvae.parameters()).device)

    codes = torch.cat([codes.cpu() for codes in vqvae.encode_stream(pieces())], dim=1)[0]
    return _said(generator, unit, reader, length, codes)


def _window(unit: Unit, reader: Reader, length: int) -> Tensor:
    """The data `[c, *axes]` of a window."""
    if isinstance(reader, ImageReader):
        return reader.read(unit.item.path, unit.start, unit.start + 1)[:, 0]
    return reader.read(unit.item.path, unit.start, unit.start + length)


def _check_even(path: Path) -> None:
    """Raise `MediaError` where a rate cannot say when the frames of a video are shown."""
    info = media.probe(path)
    even = (n / info.fps for n in range(info.num_frames))
    late = max(abs(t - info.seconds[0] - e) for t, e in zip(info.seconds, even, strict=True))
    if late > 0.5 / info.fps:
        raise media.MediaError(
            f"{path} shows its frames at uneven times, up to {late:.2g} s from those of its "
            f"average rate, which codes would lose; give fps, to read it at even times"
        )


def _said(generator: Generator, unit: Unit, reader: Reader, length: int, codes: Tensor) -> Encoded:
    """Codes with what is known about them."""
    rank, item = generator.vqvae.rank, unit.item
    rate = {1: generator.config.rate, 2: 0.0}.get(rank)
    if isinstance(reader, VideoReader):
        rate = reader.fps or media.probe(item.path).fps
    assert rate is not None
    clip = CodeClip(
        source=unit.source,
        start=unit.start,
        length=length,
        grid=tuple(codes.shape[:rank]),
        rate=rate,
        split=item.split,
        class_name=item.class_name,
        speaker=item.speaker,
    )
    told = item.actions if rank != 2 else None  # between frames, not of a single one
    actions = read_actions(told, unit.start, length) if told else None
    return Encoded(clip, codes, actions)


def _in_units(report: Callable[[int], None], units: int) -> Callable[[int, int], None]:
    """Progress in (done, all) as numbers of units more."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = units * done // total
        report(now - told)
        told = now

    return progress


def _compressed(
    generator: Generator,
    header: CodeHeader,
    found: list[Encoded],
    progress: Callable[[int, int], None],
) -> tuple[CodeHeader, list[bytes]]:
    coder = coder_of(generator)
    segment = generator.vqvae.grid_shape(generator.config.sample_shape)[0]
    told = [Told(each.clip, each.actions) for each in found]
    data = compress(coder, segment, told, [each.codes for each in found], progress)
    return replace(header, coder=coder.fingerprint, segment=segment), data


def _zstd(data: bytes) -> bytes:
    import zstandard  # comes with what compresses

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
