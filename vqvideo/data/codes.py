"""Code files: the packed codes of many clips, with random access to each clip.

A code file is a safetensors file: it has a JSON header, its tensors are memory-mapped and read on
access, and it has no pickle. (A tar archive would need a separate index for that, and half a
kibibyte for each small clip.) It contains::

    codes             uint8 [bytes]: the clips one after another, each code as ceil(log2 K) bits,
                      lowest first, in raster order; each clip starts at a byte boundary
    actions.N         actions of clip N, one per data step, if the data has actions
    "vqvideo_codes"   in the header: the CRC-32 of the rest as 8 hexadecimal digits, a space, and
                      JSON: the `CodeHeader`; a `CodeClip` for each clip, with its byte range and
                      CRC-32; and the files that could not be read

The bytes of a clip may also be compressed under a prior (`CodeHeader.coder`); then they can only be
decoded with that prior.

Not here: windows of codes for training (code_dataset.py), encoding and compression (`commands`).
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

from vqvideo.data.packing import count_bits_per_code, unpack_codes

FORMAT_VERSION = 2
CODE_FILE_PATTERN = "codes-*.safetensors"
TEMPORARY_PATTERN = ".codes-*.tmp"  # code files that are being written


class CodeFileError(ValueError):
    """Error for a file that is not a code file, is damaged, or does not match the model."""


@dataclass(frozen=True, kw_only=True)
class CodeHeader:
    """Metadata that all clips of a file share.

    Attributes:
        codebook_size: number of entries K.
        num_codebooks: codes per position.
        downsampling: data steps per code along each axis.
        fingerprint: fingerprint of the tokenizer that made the codes; see `VQVAE.fingerprint`.
        coder: fingerprint of the prior the codes are compressed under; None if only packed.
        segment: codes along the first axis that are compressed together; 0 if only packed.
    """

    codebook_size: int
    num_codebooks: int
    downsampling: tuple[int, ...]
    fingerprint: str
    coder: str | None = None
    segment: int = 0

    @property
    def bits(self) -> int:
        """Number of bits per packed code."""
        return count_bits_per_code(self.codebook_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeClip:
    """Metadata of one clip of a file.

    Attributes:
        source: the encoded media file, relative to the folder that was encoded.
        start: start of the clip in that file, in frames or audio samples.
        length: data steps along the first axis; the last code may cover fewer than the others.
        grid: shape of the codes.
        rate: data steps per second; 0 for an image.
        split: "train" or "test".
        class_name, speaker: the labels of the file; None if it has none.
    """

    source: str
    start: int
    length: int
    grid: tuple[int, ...]
    rate: float
    split: str = "train"
    class_name: str | None = None
    speaker: str | None = None


class PackedClip(NamedTuple):
    """A clip to write: `data` are its packed or compressed codes."""

    clip: CodeClip
    data: bytes
    actions: Tensor | None = None


def write_codes(
    path: str | Path,
    header: CodeHeader,
    clips: Iterable[PackedClip],
    corrupt: Mapping[str, str] | None = None,
) -> None:
    """Write a code file atomically: after a crash the old file remains, or none exists.

    Args:
        path: the file to write.
        header: metadata that all clips share.
        clips: the clips, in order.
        corrupt: the sources that could not be read, each with the reason.
    """
    path, entries, parts = Path(path), [], []
    tensors: dict[str, Tensor] = {}
    offset = 0
    for index, (clip, data, actions) in enumerate(clips):
        location = {"offset": offset, "bytes": len(data), "crc32": zlib.crc32(data)}
        entries.append({**dataclasses.asdict(clip), **location})
        parts.append(data)
        offset += len(data)
        if actions is not None:
            tensors[f"actions.{index}"] = actions.contiguous()
    tensors["codes"] = torch.frombuffer(
        bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8
    )
    text = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(header),
            "corrupt": dict(corrupt or {}),
            "clips": entries,
        }
    )
    # One entry only: safetensors does not fix the order of several, and the same codes must give
    # the same bytes.
    metadata = {"vqvideo_codes": f"{zlib.crc32(text.encode()):08x} {text}"}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file(tensors, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class CodeFile:
    """A memory-mapped code file with random access to each clip.

    Args:
        path: a file that `write_codes` wrote.

    Attributes:
        header: metadata that all clips share.
        clips: metadata of each clip.
        corrupt: the sources that could not be read, each with the reason.

    Raises:
        FileNotFoundError: the file does not exist.
        CodeFileError: the file is not a code file, is damaged, or has an unsupported version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = safe_open(path, framework="pt")
            self._keys = set(self._file.keys())
        except SafetensorError as cause:
            raise CodeFileError(f"{path} is not a code file, or is damaged: {cause}") from cause
        fields = self._read_header()
        entries = fields.pop("clips")
        byte_ranges = [
            [entry.pop(key) for key in ("offset", "bytes", "crc32")] for entry in entries
        ]
        self._byte_ranges: list[list[int]] = byte_ranges
        self.clips = tuple(_from_json(CodeClip, entry) for entry in entries)
        self.corrupt: dict[str, str] = fields.pop("corrupt")
        self.header: CodeHeader = _from_json(CodeHeader, fields)
        self._verified: set[int] = set()  # clips whose checksum was verified
        size = self._file.get_slice("codes").get_shape()[0]
        if any(offset + length > size for offset, length, _ in byte_ranges):
            raise CodeFileError(f"{path} is damaged: its clips need more bytes than it has")

    def _read_header(self) -> dict[str, Any]:
        """Read the fields of the header, without the version."""
        text = (self._file.metadata() or {}).get("vqvideo_codes")
        if text is None or "codes" not in self._keys:
            raise CodeFileError(f"{self.path} is a safetensors file, but not a code file")
        checksum, _, text = text.partition(" ")
        if checksum != f"{zlib.crc32(text.encode()):08x}":
            raise CodeFileError(
                f"{self.path} has a damaged header (its CRC-32 does not match) or has format "
                f"version 1; encode the data again"
            )
        fields: dict[str, Any] = json.loads(text)
        version = fields.pop("format_version")
        if version != FORMAT_VERSION:
            raise CodeFileError(
                f"{self.path} must be a code file of format version {FORMAT_VERSION}, got "
                f"{version}; encode the data again"
            )
        return fields

    def __len__(self) -> int:
        return len(self.clips)

    def get_bytes(self, index: int) -> bytes:
        """Return the packed or compressed bytes of a clip.

        Raises:
            CodeFileError: the checksum of the bytes does not match.
        """
        offset, length, checksum = self._byte_ranges[index]
        data = self._read_bytes(offset, offset + length)
        if zlib.crc32(data) != checksum:
            raise CodeFileError(f"{self._describe(index)} is damaged: its CRC-32 does not match")
        self._verified.add(index)
        return data

    def get_codes(self, index: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Return codes int64 `[n, *inner(, s)]` of a clip, `start` to before `stop` along axis 0.

        The first access verifies the checksum of the whole clip; later ones read only the part.

        Raises:
            CodeFileError: the codes are compressed or damaged.
        """
        header, clip = self.header, self.clips[index]
        if header.coder is not None:
            raise CodeFileError(
                f"{self.path} is compressed under a prior; use `vqvideo decode` with that prior"
            )
        stop = clip.grid[0] if stop is None else stop
        assert 0 <= start <= stop <= clip.grid[0]
        row_bits = math.prod(clip.grid[1:]) * header.num_codebooks * header.bits
        if index not in self._verified:
            self.get_bytes(index)
        offset, skip = self._byte_ranges[index][0], start * row_bits % 8
        data = self._read_bytes(offset + start * row_bits // 8, offset + -(-stop * row_bits // 8))
        codes = unpack_codes(data, header.bits, skip, (stop - start) * row_bits // header.bits)
        if codes.numel() and codes.max() >= header.codebook_size:
            raise CodeFileError(
                f"{self._describe(index)} is damaged: it has code {int(codes.max())}, expected "
                f"codes below {header.codebook_size}"
            )
        codebook_axis = (header.num_codebooks,) if header.num_codebooks > 1 else ()
        return codes.view(stop - start, *clip.grid[1:], *codebook_axis)

    def has_actions(self, index: int) -> bool:
        """Return whether the clip has actions."""
        return f"actions.{index}" in self._keys

    def get_actions(self, index: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Return actions `[n]` or `[n, a]`, one per data step from `start` to before `stop`."""
        assert self.has_actions(index)
        return self._file.get_slice(f"actions.{index}")[start:stop]  # type: ignore[no-any-return]

    def check_fingerprint(self, *fingerprints: str) -> None:
        """Raise `CodeFileError` unless the tokenizer of the codes has one of these fingerprints,
        of which the first is the model's; see `VQVAE.compatible_fingerprints`.
        """
        if self.header.fingerprint not in fingerprints:
            raise CodeFileError(
                f"{self.path} holds codes of another tokenizer: its fingerprint is "
                f"{self.header.fingerprint[:12]}, the model's {fingerprints[0][:12]}; give the "
                f"model that made the codes, or encode the data again"
            )

    def __reduce__(self) -> tuple[type[CodeFile], tuple[Path]]:
        return CodeFile, (self.path,)  # an open file cannot be pickled

    def _read_bytes(self, start: int, end: int) -> bytes:
        return bytes(self._file.get_slice("codes")[start:end].numpy().tobytes())

    def _describe(self, index: int) -> str:
        return f"clip {index} of {self.path} ({self.clips[index].source})"


def open_codes(folder: str | Path) -> list[CodeFile]:
    """Open all code files of a folder that `vqvideo encode` wrote; return [] if it has none.

    Raises:
        CodeFileError: a file cannot be read or is missing, or the headers of the files differ.
    """
    paths = sorted(Path(folder).glob(CODE_FILE_PATTERN))
    totals = {path.stem.partition("-of-")[2] for path in paths} - {""}
    if totals and (len(totals) > 1 or len(paths) != int(totals.pop())):
        raise CodeFileError(
            f"{folder} has {len(paths)} code files, {paths[0].name} to {paths[-1].name}, expected "
            f"all files of one run; repeat the command that encodes them to complete the run"
        )
    files = [CodeFile(path) for path in paths]
    for file in files[1:]:
        if file.header != files[0].header:
            raise CodeFileError(
                f"{files[0].path} and {file.path} have different headers; encode the data again"
            )
    return files


def _from_json(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    """Build a dataclass from JSON data; convert lists to tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
