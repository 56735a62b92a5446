"""A few files, or windows of files, as one code file: what one process does of `vqvideo encode`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.cond import Cond, CondSpec
from vqvideo.data.actions import read_actions
from vqvideo.data.codes import CodeClip, CodeHeader, Packed, pack, write_codes
from vqvideo.data.metadata import Item
from vqvideo.data.readers import Fit, Reader, SoundReader, VideoReader
from vqvideo.entropy import PriorCoder
from vqvideo.generator import Generator
from vqvideo.jobs.model import open_model

AT_ONCE = 16  # windows encoded together; frames of a long video read at a time
ZSTD_LEVEL = 19


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What becomes one clip: a file, or `length` steps of it from `start` on."""

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


class Encoded(NamedTuple):
    """What a shard gave.

    Attributes:
        num_clips: in the code file.
        corrupt: a sentence for each file that could not be read.
        seconds: of data.
        bits: of the codes as they stand in the file.
        packed_bits: of the same codes packed only.
        zstd_bits: of the packed codes after zstd; 0 where nothing was compressed.
    """

    num_clips: int
    corrupt: tuple[str, ...]
    seconds: float
    bits: int
    packed_bits: int
    zstd_bits: int

    def plus(self, other: Encoded) -> Encoded:
        """Both together."""
        return Encoded(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[operator]


class Codes(NamedTuple):
    """The codes `[*grid(, s)]` of one clip, and its actions."""

    clip: CodeClip
    codes: Tensor
    actions: Tensor | None


def encode_shard(shard: Shard, progress: Callable[[int], None] = lambda units: None) -> Encoded:
    """Encode the units of a shard and write its code file; what cannot be read is left out.

    Args:
        shard: may come from another process.
        progress: called with a number of units whenever so many are done.
    """
    if shard.num_threads:
        torch.set_num_threads(shard.num_threads)
    generator = _opened(shard.model, shard.device)
    vqvae, corrupt = generator.vqvae, []
    found: list[Codes] = []
    batch: list[tuple[Unit, Tensor]] = []
    for unit in shard.units:
        try:
            if unit.length is None:
                found.append(_whole(generator, unit, shard))
            else:
                batch.append((unit, next(_pieces(generator, unit, shard))))
        except media.MediaError as error:
            corrupt.append(str(error))
        if len(batch) == AT_ONCE or (batch and unit is shard.units[-1]):
            x = torch.stack([x for _, x in batch]).to(next(vqvae.parameters()).device)
            codes = vqvae.encode(x).cpu()
            found += [
                _said(generator, u, shard, len(x[0]), c)
                for (u, x), c in zip(batch, codes, strict=True)
            ]
            batch.clear()
        progress(1)
    quantizer = vqvae.quantizer
    header = CodeHeader(
        codebook_size=quantizer.codebook_size,
        num_codebooks=quantizer.num_codebooks,
        downsampling=vqvae.downsampling,
        fingerprint=vqvae.fingerprint(),
    )
    packed = [pack(each.codes, header.bits) for each in found]
    data, zstd = packed, 0
    if shard.compress:
        coder = coder_of(generator)
        header = replace(header, coder=coder.fingerprint)
        data = compress(coder, found)
        zstd = 8 * len(_zstd(b"".join(packed)))
    clips = [Packed(e.clip, d, e.actions) for e, d in zip(found, data, strict=True)]
    write_codes(shard.path, header, clips)
    return Encoded(
        num_clips=len(found),
        corrupt=tuple(corrupt),
        seconds=sum(e.clip.length / e.clip.rate for e in found if e.clip.rate),
        bits=8 * sum(map(len, data)),
        packed_bits=8 * sum(map(len, packed)),
        zstd_bits=zstd,
    )


def compress(coder: PriorCoder, clips: Sequence[Codes]) -> list[bytes]:
    """The codes of clips as bytes under a prior; those of one shape are encoded together."""
    data: list[bytes] = [b""] * len(clips)
    for shape in sorted({each.codes.shape for each in clips}):
        alike = [i for i, each in enumerate(clips) if each.codes.shape == shape]
        for start in range(0, len(alike), AT_ONCE):
            some = alike[start : start + AT_ONCE]
            told = cond_of_clips(coder.prior.cond, [clips[i] for i in some])
            for i, each in zip(
                some, coder.encode(torch.stack([clips[i].codes for i in some]), told), strict=True
            ):
                data[i] = each
    return data


def cond_of_clips(spec: CondSpec, clips: Sequence[Codes]) -> Cond | None:
    """What a prior of `spec` is told about clips whose grids are equal.

    Raises:
        ValueError: the data lacks what the prior takes.
    """
    if spec.is_empty:
        return None
    told: dict[str, Tensor] = {}
    for name, attribute, names in (
        ("class_id", "class_name", spec.class_names),
        ("speaker", "speaker", spec.speaker_names),
    ):
        said = [getattr(each.clip, attribute) for each in clips]
        if names:
            unknown = [each for each in said if each not in names]
            if unknown:
                raise ValueError(f"the prior knows {', '.join(names)}, the data has {unknown[0]!r}")
            told[name] = torch.tensor([names.index(each) for each in said])
    if spec.takes_actions:
        told["actions"] = torch.stack([_filled(each, spec.actions_per_code) for each in clips])
    return Cond(**told)


def _filled(clip: Codes, per_code: int) -> Tensor:
    """The actions of a clip, with none (0) for the steps that only fill up its last code."""
    if clip.actions is None:
        raise ValueError(f"the prior takes actions, {clip.clip.source} has none")
    lacking = clip.clip.grid[0] * per_code - len(clip.actions)
    return torch.cat([clip.actions, clip.actions.new_zeros(lacking, *clip.actions.shape[1:])])


def _whole(generator: Generator, unit: Unit, shard: Shard) -> Codes:
    """A file of any length, in constant memory but for its codes."""
    vqvae, length = generator.vqvae, 0

    def pieces() -> Iterator[Tensor]:
        nonlocal length
        for piece in _pieces(generator, unit, shard):
            length += piece.shape[1]
            yield piece[None].to(next(vqvae.parameters()).device)

    codes = torch.cat([codes.cpu() for codes in vqvae.encode_stream(pieces())], dim=1)[0]
    return _said(generator, unit, shard, length, codes)


def _pieces(generator: Generator, unit: Unit, shard: Shard) -> Iterator[Tensor]:
    """The data `[c, n, ...]` of a unit: of a window in one piece."""
    rank, path = generator.vqvae.rank, unit.item.path
    if rank == 2:
        yield media.read_image(path, size=shard.size, fit=shard.fit)
        return
    reader: Reader = SoundReader(int(generator.config.rate))
    if rank == 3:
        assert shard.size is not None
        reader = VideoReader(shard.size, shard.fit, shard.fps)
    if unit.length is not None:
        yield reader.read(path, unit.start, unit.start + unit.length)
    elif rank == 3 and shard.fps is None:  # one pass of the decoder
        yield from media.read_pieces(path, frames_per_piece=AT_ONCE, size=shard.size, fit=shard.fit)
    else:
        yield from reader.pieces(path, reader.length(reader.measure(path)))


def _said(generator: Generator, unit: Unit, shard: Shard, length: int, codes: Tensor) -> Codes:
    """Codes with what is known about them."""
    rank, item = generator.vqvae.rank, unit.item
    rate = {1: generator.config.rate, 2: 0.0, 3: shard.fps}[rank]
    clip = CodeClip(
        source=unit.source,
        start=unit.start,
        length=length,
        grid=tuple(codes.shape[:rank]),
        rate=media.probe(item.path).fps if rate is None else rate,
        split=item.split,
        class_name=item.class_name,
        speaker=item.speaker,
    )
    actions = read_actions(item.actions, unit.start, length) if item.actions else None
    return Codes(clip, codes, actions)


@functools.lru_cache(maxsize=1)
def _opened(model: str, device: str) -> Generator:
    return open_model(model, device)


def coder_of(generator: Generator) -> PriorCoder:
    """What compresses codes under the model's prior.

    Raises:
        ValueError: it has none, or not one that can.
    """
    if generator.prior is None:
        raise ValueError("this model has no prior to compress codes under; train one first")
    return PriorCoder(generator.prior)


def _zstd(data: bytes) -> bytes:
    import zstandard  # comes with what compresses

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
