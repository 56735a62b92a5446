"""The header of a code file: metadata of its clips as JSON, under a checksum.

The checksum detects damage, not forgery. So everything is also checked for its kind and range, in
time linear in the size of the header, and a clip may not have more codes than its bytes can hold,
before anything is built from it.

Not here: the tensors of the file (codes.py).
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any, NamedTuple

from vqvideo.data.packing import count_bits_per_code
from vqvideo.grid import AXIS_NAMES, ceil_div

FORMAT_VERSION = 3
READABLE_VERSIONS = (2, FORMAT_VERSION)  # format 2 has no checksums of actions
MAX_INT = 2**63 - 1
MAX_SOURCE_LENGTH = 32_767  # characters of a path, the most that any system allows
MAX_RATE = 1e9  # data steps per second
MAX_CODES_PER_BYTE = 1024  # in compressed clips; an arithmetic coder has no limit of its own


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

    Raises:
        ValueError: a value has another type or is out of range.
    """

    codebook_size: int
    num_codebooks: int
    downsampling: tuple[int, ...]
    fingerprint: str
    coder: str | None = None
    segment: int = 0

    def __post_init__(self) -> None:
        _check_int("codebook_size", self.codebook_size, 1)
        _check_int("num_codebooks", self.num_codebooks, 1)
        _check_ints("downsampling", self.downsampling)
        if len(self.downsampling) not in AXIS_NAMES:
            raise ValueError(f"downsampling must have 1 to 3 axes, got {len(self.downsampling)}")
        if not isinstance(self.fingerprint, str):
            raise ValueError(f"fingerprint must be text, got {shorten(self.fingerprint)}")
        _check_label("coder", self.coder)
        _check_int("segment", self.segment, 0)
        if (self.coder is None) != (self.segment == 0):
            raise ValueError(
                f"segment must be at least 1 with a coder and 0 without, got {self.segment}"
            )

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

    Raises:
        ValueError: a value has another type or is out of range.
    """

    source: str
    start: int
    length: int
    grid: tuple[int, ...]
    rate: float
    split: str = "train"
    class_name: str | None = None
    speaker: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not 1 <= len(self.source) <= MAX_SOURCE_LENGTH:
            raise ValueError(
                f"source must be a path of 1 to {MAX_SOURCE_LENGTH} characters, got "
                f"{shorten(self.source)}"
            )
        _check_int("start", self.start, 0)
        _check_int("length", self.length, 1)
        _check_ints("grid", self.grid)
        is_number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not is_number or not 0 <= self.rate <= MAX_RATE:
            raise ValueError(
                f"rate must be a number from 0 to {MAX_RATE:g}, got {shorten(self.rate)}"
            )
        if self.split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {shorten(self.split)}")
        _check_label("class_name", self.class_name)
        _check_label("speaker", self.speaker)


class ClipLocation(NamedTuple):
    """Location of a clip in the tensor of codes, in bytes, and its checksums.

    `actions_crc32` is None if the clip has no actions, and in format 2.
    """

    offset: int
    num_bytes: int
    crc32: int
    actions_crc32: int | None = None


class ParsedHeader(NamedTuple):
    """Contents of the header of a code file; see `CodeFile`."""

    format_version: int
    header: CodeHeader
    clips: tuple[CodeClip, ...]
    locations: tuple[ClipLocation, ...]
    corrupt: dict[str, str]


def check_clip(header: CodeHeader, clip: CodeClip, num_bytes: int) -> None:
    """Raise `ValueError` unless the metadata of a clip agree with the header and its bytes."""
    if len(clip.grid) != len(header.downsampling):
        raise ValueError(f"grid must have {len(header.downsampling)} axes, got {len(clip.grid)}")
    if ceil_div(clip.length, header.downsampling[0]) != clip.grid[0]:
        raise ValueError(
            f"length must be that of {clip.grid[0]} codes of {header.downsampling[0]} data steps, "
            f"got {clip.length}"
        )
    num_codes = math.prod(clip.grid) * header.num_codebooks
    if header.coder is not None and num_codes > MAX_CODES_PER_BYTE * num_bytes:
        raise ValueError(
            f"compressed codes must be at most {MAX_CODES_PER_BYTE} per byte, got {num_codes} in "
            f"{num_bytes} bytes"
        )
    expected = ceil_div(num_codes * header.bits, 8)
    if header.coder is None and num_bytes != expected:
        raise ValueError(f"{num_codes} codes take {expected} bytes, got {num_bytes}")


def format_header(
    header: CodeHeader,
    clips: Sequence[CodeClip],
    locations: Sequence[ClipLocation],
    corrupt: Mapping[str, str],
) -> str:
    """Return the text of a header: the CRC-32 of the rest, a space, and JSON."""
    entries = []
    for clip, location in zip(clips, locations, strict=True):
        entry = dataclasses.asdict(clip)
        entry |= {"offset": location.offset, "bytes": location.num_bytes, "crc32": location.crc32}
        if location.actions_crc32 is not None:
            entry["actions_crc32"] = location.actions_crc32
        entries.append(entry)
    shared = {"format_version": FORMAT_VERSION, **dataclasses.asdict(header)}
    text = json.dumps({**shared, "corrupt": dict(corrupt), "clips": entries})
    return f"{zlib.crc32(text.encode()):08x} {text}"


def parse_header(text: str) -> ParsedHeader:
    """Parse and check the text of a header.

    Raises:
        ValueError: the text is damaged, has another format version, or has invalid values.
    """
    checksum, _, text = text.partition(" ")
    if checksum != f"{zlib.crc32(text.encode()):08x}":
        raise ValueError(
            "has a damaged header (its CRC-32 does not match) or has format version 1; encode "
            "the data again"
        )
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise ValueError(f"has a header that is not valid JSON: {cause}") from cause
    if not isinstance(fields, dict):
        raise ValueError("has a header that is not a JSON object")
    version = fields.pop("format_version", None)
    if type(version) is not int or version not in READABLE_VERSIONS:
        readable = " or ".join(map(str, READABLE_VERSIONS))
        raise ValueError(
            f"must be a code file of format version {readable}, got {shorten(version)}; encode "
            f"the data again"
        )
    corrupt, entries = fields.pop("corrupt", None), fields.pop("clips", None)
    is_text = isinstance(corrupt, dict) and all(isinstance(v, str) for v in corrupt.values())
    if not is_text or not isinstance(entries, list):
        raise ValueError("has an invalid header: corrupt must hold texts and clips a list")
    try:
        header = _from_json(CodeHeader, fields)
    except ValueError as cause:
        raise ValueError(f"has an invalid header: {cause}") from cause
    clips, locations, offset = [], [], 0
    for index, entry in enumerate(entries):
        try:
            location = _pop_location(entry, offset, has_actions_crc32=version > 2)
            clip = _from_json(CodeClip, entry)
            check_clip(header, clip, location.num_bytes)
        except ValueError as cause:
            raise ValueError(f"has an invalid clip {index}: {cause}") from cause
        offset += location.num_bytes
        clips.append(clip)
        locations.append(location)
    return ParsedHeader(version, header, tuple(clips), tuple(locations), corrupt)


def _pop_location(entry: Any, offset: int, *, has_actions_crc32: bool) -> ClipLocation:
    """Remove the location from the JSON entry of a clip that must start at `offset`."""
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, got {shorten(entry)}")
    keys = ["offset", "bytes", "crc32"]
    if has_actions_crc32 and "actions_crc32" in entry:
        keys.append("actions_crc32")
    location = ClipLocation(*(entry.pop(key, None) for key in keys))
    for key, value in zip(keys, location, strict=False):
        _check_int(key, value, 0)
    if location.offset != offset:
        raise ValueError(
            f"offset must be {offset}, the end of the clip before, got {location.offset}"
        )
    return location


def _from_json(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    """Build a dataclass from JSON data; convert lists to tuples."""
    fields = dataclasses.fields(kind)
    for name in entry:
        if name not in kind.__dataclass_fields__:
            raise ValueError(f"unknown key {shorten(name)}")
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in entry:
            raise ValueError(f"{field.name} is missing")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})


def _check_int(name: str, value: object, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= MAX_INT:
        raise ValueError(
            f"{name} must be an integer from {minimum} to 2**63 - 1, got {shorten(value)}"
        )


def _check_ints(name: str, values: object) -> None:
    if not isinstance(values, tuple):
        raise ValueError(f"{name} must be integers, got {shorten(values)}")
    for value in values:
        _check_int(name, value, 1)


def _check_label(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text or None, got {shorten(value)}")
