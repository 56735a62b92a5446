"""Code files: the codes of many clips, packed, each clip to be read by itself.

A safetensors file: its header is JSON, its tensors are mapped into memory and read where they are
wanted, and it is free of pickle. (A tar would need an index beside it for that, and half a kibibyte
for each small clip.) It holds::

    codes             uint8 [bytes]: clip after clip, each code as ceil(log2 K) bits, lowest first,
                      in raster order; a clip begins with a byte of its own
    actions.N         of clip N, one per data step, where the data had actions
    "vqvideo_codes"   in the header: the CRC-32 of what follows, as 8 hexadecimal digits, a space,
                      and JSON: `CodeHeader`; for each clip a `CodeClip`, with its place and a
                      CRC-32; and which files could not be read

The bytes of a clip may also have been compressed under a prior (`CodeHeader.coder`); then they say
nothing without that prior.

Not here: windows of codes to train on (code_windows.py), making codes and compressing them (jobs).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vqvideo.data.packing import bits_per_code, unpack

FORMAT_VERSION = 2
PATTERN = "codes-*.safetensors"
TEMPORARY = ".codes-*.tmp"  # a file of that pattern while it is written


class CodeFileError(ValueError):
    """A file that is no code file, is damaged, or does not fit; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class CodeHeader:
    """What holds for all clips of a file.

    Attributes:
        codebook_size: K.
        num_codebooks: codes per position.
        downsampling: data steps per code, one per axis.
        fingerprint: of the tokenizer that made the codes; see `VQVAE.fingerprint`.
        coder: fingerprint of the prior they are compressed under; None if they are only packed.
        segment: codes along the first axis that are compressed together; 0 if they are only packed.
    """

    codebook_size: int
    num_codebooks: int
    downsampling: tuple[int, ...]
    fingerprint: str
    coder: str | None = None
    segment: int = 0

    @property
    def bits(self) -> int:
        """Bits per packed code."""
        return bits_per_code(self.codebook_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeClip:
    """One clip of a file.

    Attributes:
        source: the file it comes from, relative to the folder that was encoded.
        start: where in that file it begins, in frames or sound samples.
        length: data steps along its first axis; the last code may stand for fewer than the others.
        grid: of its codes.
        rate: data steps per second; 0 for an image.
        split: "train" or "test".
        class_name, speaker: where the data said so.
    """

    source: str
    start: int
    length: int
    grid: tuple[int, ...]
    rate: float
    split: str = "train"
    class_name: str | None = None
    speaker: str | None = None


class Packed(NamedTuple):
    """A clip ready to be written: `data` are its packed or compressed codes."""

    clip: CodeClip
    data: bytes
    actions: Tensor | None = None


def write_codes(
    path: str | Path,
    header: CodeHeader,
    clips: Iterable[Packed],
    corrupt: Mapping[str, str] | None = None,
) -> None:
    """Write a file that `CodeFile` reads; a crash midway leaves the old one, or none.

    Args:
        path: of the file.
        header: what holds for all clips.
        clips: in their order.
        corrupt: sources that could not be read, and why.
    """
    path, entries, parts = Path(path), [], []
    tensors: dict[str, Tensor] = {}
    offset = 0
    for index, (clip, data, actions) in enumerate(clips):
        place = {"offset": offset, "bytes": len(data), "crc32": zlib.crc32(data)}
        entries.append({**dataclasses.asdict(clip), **place})
        parts.append(data)
        offset += len(data)
        if actions is not None:
            tensors[f"actions.{index}"] = actions.contiguous()
    tensors["codes"] = torch.frombuffer(
        bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8
    )
    said = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(header),
            "corrupt": dict(corrupt or {}),
            "clips": entries,
        }
    )
    checked = {"vqvideo_codes": f"{zlib.crc32(said.encode()):08x} {said}"}  # one entry: several
    # would come in any order, and the same codes must give the same bytes
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file(tensors, temporary, metadata=checked)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class CodeFile:
    """A code file, mapped into memory: any clip is read without the others.

    Args:
        path: a file that `write_codes` wrote.

    Attributes:
        header: what holds for all clips.
        clips: one entry for each.
        corrupt: sources that could not be read, and why.

    Raises:
        FileNotFoundError: no such file.
        CodeFileError: it is another kind of file, damaged, or of a version this one cannot read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = safe_open(path, framework="pt")
            self._names = set(self._file.keys())
        except SafetensorError as cause:
            raise CodeFileError(f"{path} is no code file, or damaged: {cause}") from cause
        said = self._checked_header()
        entries = said.pop("clips")
        places = [[entry.pop(key) for key in ("offset", "bytes", "crc32")] for entry in entries]
        self._places: list[list[int]] = places
        self.clips = tuple(_made(CodeClip, entry) for entry in entries)
        self.corrupt: dict[str, str] = said.pop("corrupt")
        self.header: CodeHeader = _made(CodeHeader, said)
        self._sound: set[int] = set()  # clips whose bytes were seen to be what was written
        size = self._file.get_slice("codes").get_shape()[0]
        if any(offset + length > size for offset, length, _ in places):
            raise CodeFileError(f"{path} is damaged: its clips need more bytes than it holds")

    def _checked_header(self) -> dict[str, Any]:
        """What the header says, without the version."""
        text = (self._file.metadata() or {}).get("vqvideo_codes")
        if text is None or "codes" not in self._names:
            raise CodeFileError(f"{self.path} is a safetensors file, but no code file")
        checksum, _, text = text.partition(" ")
        if checksum != f"{zlib.crc32(text.encode()):08x}":
            raise CodeFileError(
                f"{self.path} has a damaged header: its CRC-32 is another; or it is of format "
                f"version 1, and the data must be encoded again"
            )
        said: dict[str, Any] = json.loads(text)
        version = said.pop("format_version")
        if version != FORMAT_VERSION:
            raise CodeFileError(
                f"{self.path} must be a code file of format version {FORMAT_VERSION}, got "
                f"{version}; encode the data again"
            )
        return said

    def __len__(self) -> int:
        return len(self.clips)

    def data(self, index: int) -> bytes:
        """The packed or compressed bytes of a clip.

        Raises:
            CodeFileError: they are not what was written.
        """
        offset, length, checksum = self._places[index]
        data = self._bytes(offset, offset + length)
        if zlib.crc32(data) != checksum:
            raise CodeFileError(f"{self._named(index)} is damaged: its CRC-32 is another")
        self._sound.add(index)
        return data

    def codes(self, index: int, first: int = 0, last: int | None = None) -> Tensor:
        """Codes int64 `[n, *inner(, s)]` of a clip, from `first` to before `last` along its first
        axis. All of a clip is read and checked once; after that, of a part only what it needs.

        Raises:
            CodeFileError: they are compressed or damaged.
        """
        header, clip = self.header, self.clips[index]
        if header.coder is not None:
            raise CodeFileError(
                f"{self.path} is compressed under a prior; `vqvideo decode` reads it with it"
            )
        last = clip.grid[0] if last is None else last
        assert 0 <= first <= last <= clip.grid[0]
        step = math.prod(clip.grid[1:]) * header.num_codebooks * header.bits
        if index not in self._sound:
            self.data(index)
        offset, skip = self._places[index][0], first * step % 8
        data = self._bytes(offset + first * step // 8, offset + -(-last * step // 8))
        codes = unpack(data, header.bits, skip, (last - first) * step // header.bits)
        if codes.numel() and codes.max() >= header.codebook_size:
            raise CodeFileError(
                f"{self._named(index)} is damaged: it holds code {int(codes.max())} of a codebook "
                f"of {header.codebook_size}"
            )
        each = (header.num_codebooks,) if header.num_codebooks > 1 else ()
        return codes.view(last - first, *clip.grid[1:], *each)

    def has_actions(self, index: int) -> bool:
        """Whether the data of a clip had actions."""
        return f"actions.{index}" in self._names

    def actions(self, index: int, first: int = 0, last: int | None = None) -> Tensor:
        """One action per data step of a clip, `[n]` or `[n, a]`, from `first` to before `last`."""
        assert self.has_actions(index)
        return self._file.get_slice(f"actions.{index}")[first:last]  # type: ignore[no-any-return]

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raise `CodeFileError` unless the codes are those of the tokenizer of this fingerprint."""
        if self.header.fingerprint != fingerprint:
            raise CodeFileError(
                f"{self.path} holds codes of another tokenizer: its fingerprint is "
                f"{self.header.fingerprint[:12]}, the model's {fingerprint[:12]}; give the model "
                f"that made the codes, or encode the data again"
            )

    def __reduce__(self) -> tuple[type[CodeFile], tuple[Path]]:
        return CodeFile, (self.path,)  # an open file cannot go to another process

    def _bytes(self, start: int, end: int) -> bytes:
        return bytes(self._file.get_slice("codes")[start:end].numpy().tobytes())

    def _named(self, index: int) -> str:
        return f"clip {index} of {self.path} ({self.clips[index].source})"


def open_codes(folder: str | Path) -> list[CodeFile]:
    """All code files of a folder that `vqvideo encode` made; none if there are none.

    Raises:
        CodeFileError: one cannot be read or is missing, or they are of different tokenizers.
    """
    paths = sorted(Path(folder).glob(PATTERN))
    number = {path.stem.partition("-of-")[2] for path in paths} - {""}
    if number and (len(number) > 1 or len(paths) != int(number.pop())):
        raise CodeFileError(
            f"{folder} holds {len(paths)} code files, {paths[0].name} to {paths[-1].name}, and not "
            f"all of one run; the command that encodes them goes on where it was stopped"
        )
    files = [CodeFile(path) for path in paths]
    for file in files[1:]:
        if file.header != files[0].header:
            raise CodeFileError(
                f"{files[0].path} and {file.path} differ in what made them; encode the data again"
            )
    return files


def _made(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    """A dataclass of JSON's plain data, lists as tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
