"""Code files: the packed codes of many clips, with random access to each clip.

A code file is a safetensors file: it has a JSON header, its tensors are memory-mapped and read on
access, and it has no pickle. (A tar archive would need a separate index for that, and half a
kibibyte for each small clip.) It contains::

    codes             uint8 [bytes]: the clips one after another, each code as ceil(log2 K) bits,
                      lowest first, in raster order; each clip starts at a byte boundary
    actions.N         actions of clip N, one per data step, if the data has actions
    "vqvideo_codes"   in the header: the CRC-32 of the rest as 8 hexadecimal digits, a space, and
                      JSON: the `CodeHeader`; a `CodeClip` for each clip, with its byte range, its
                      CRC-32 and that of its actions; and the files that could not be read

The bytes of a clip may also be compressed under a prior (`CodeHeader.coder`); then they can only be
decoded with that prior.

Opening a file checks the header and the names, dtypes and shapes of all tensors, which must be
exactly those of its clips. The data of a clip, codes or actions, are checked when first read. So
every byte is checked: safetensors accepts no file with bytes that belong to no tensor.

Not here: contents of the header (code_header.py), checks of tensors (code_tensors.py), windows of
codes for training (code_dataset.py), encoding and compression (`commands`).
"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vqvideo.atomic import replace_file
from vqvideo.data.code_header import (
    ClipLocation,
    CodeClip,
    CodeFileError,
    CodeHeader,
    check_clip,
    format_header,
    parse_header,
)
from vqvideo.data.code_tensors import (
    check_tensors,
    compute_actions_crc,
    locate_clip,
    open_safetensors,
)
from vqvideo.data.packing import unpack_codes

__all__ = [
    "CodeClip",
    "CodeFile",
    "CodeFileError",
    "CodeHeader",
    "PackedClip",
    "open_codes",
    "write_codes",
]

CODE_FILE_PATTERN = "codes-*.safetensors"
HEADER_KEY = "vqvideo_codes"


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

    Raises:
        ValueError: the bytes or the actions of a clip do not match its metadata.
    """
    path, packed = Path(path), list(clips)
    locations: list[ClipLocation] = []
    for index, item in enumerate(packed):
        try:
            check_clip(header, item.clip, len(item.data))
            offset = locations[-1].offset + locations[-1].num_bytes if locations else 0
            locations.append(locate_clip(offset, *item))
        except ValueError as cause:
            raise ValueError(f"cannot write clip {index} ({item.clip.source}): {cause}") from cause
    tensors = {
        f"actions.{index}": item.actions.contiguous().clone()  # safetensors refuses shared memory
        for index, item in enumerate(packed)
        if item.actions is not None
    }
    data = bytearray().join(item.data for item in packed)
    tensors["codes"] = torch.from_numpy(np.frombuffer(data, np.uint8))
    text = format_header(header, [item.clip for item in packed], locations, corrupt or {})
    # One entry only: safetensors does not fix the order of several, so the bytes would differ.
    with replace_file(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: text})


class CodeFile:
    """A memory-mapped code file with random access to each clip.

    Args:
        path: a file that `write_codes` wrote.

    Attributes:
        format_version: 3, or 2 for an older file, whose actions have no checksums.
        header: metadata that all clips share.
        clips: metadata of each clip.
        corrupt: the sources that could not be read, each with the reason.

    Raises:
        FileNotFoundError: the file does not exist.
        CodeFileError: the file is not a code file, is damaged, or has an unsupported version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_safetensors(self.path)
        self._keys = set(self._file.keys())
        text = (self._file.metadata() or {}).get(HEADER_KEY)
        if text is None or "codes" not in self._keys:
            raise CodeFileError(f"{self.path} is a safetensors file, but not a code file")
        try:
            parsed = parse_header(text)
        except ValueError as cause:
            raise CodeFileError(f"{self.path} {cause}") from cause
        self.format_version, self.header, self.clips, self._locations, self.corrupt = parsed
        self._verified: set[int] = set()  # clips whose codes were verified
        self._verified_actions: set[int] = set()
        try:
            check_tensors(self._file, self._keys, parsed)
        except ValueError as cause:
            raise CodeFileError(f"{self.path} is damaged: {cause}") from cause

    def __len__(self) -> int:
        return len(self.clips)

    def get_bytes(self, index: int) -> bytes:
        """Return the packed or compressed bytes of a clip.

        Raises:
            CodeFileError: the checksum of the bytes does not match.
        """
        offset, num_bytes, checksum, _ = self._locations[index]
        data = self._read_bytes(offset, offset + num_bytes)
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
        offset, skip = self._locations[index].offset, start * row_bits % 8
        data = self._read_bytes(offset + start * row_bits // 8, offset + -(-stop * row_bits // 8))
        codes = unpack_codes(data, header.bits, skip, (stop - start) * row_bits // header.bits)
        if codes.numel() and codes.max() >= header.codebook_size:
            raise CodeFileError(
                f"{self._describe(index)} is damaged: it has code {int(codes.max())}, expected "
                f"codes below {header.codebook_size}"
            )
        codebook_axis = (header.num_codebooks,) if header.num_codebooks > 1 else ()
        return codes.view(stop - start, *clip.grid[1:], *codebook_axis)

    @property
    def has_unchecked_actions(self) -> bool:
        """Return whether actions have no checksums, as in files of format version 2."""
        return self.format_version < 3 and len(self._keys) > 1

    def has_actions(self, index: int) -> bool:
        """Return whether the clip has actions."""
        return f"actions.{index}" in self._keys

    def get_actions(self, index: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Return actions `[n]` or `[n, a]`, one per data step from `start` to before `stop`.

        The first access verifies all actions of the clip; later ones read only the part.

        Raises:
            CodeFileError: the checksum of the actions does not match (format 2 has none), or they
                contain NaN or infinity.
        """
        assert self.has_actions(index)
        name = f"actions.{index}"
        if index not in self._verified_actions:
            self._verify_actions(index, self._file.get_tensor(name))
        return self._file.get_slice(name)[start:stop]  # type: ignore[no-any-return]

    def _verify_actions(self, index: int, actions: Tensor) -> None:
        checksum = self._locations[index].actions_crc32
        if checksum is not None and checksum != compute_actions_crc(actions):
            raise CodeFileError(
                f"the actions of {self._describe(index)} are damaged: their CRC-32 does not match"
            )
        if not torch.isfinite(actions).all():
            raise CodeFileError(
                f"the actions of {self._describe(index)} must be finite, got NaN or infinity"
            )
        self._verified_actions.add(index)

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

    Warn once if actions are unchecked, see `CodeFile.has_unchecked_actions`.

    Raises:
        CodeFileError: a file cannot be read or is missing, or the headers of the files differ.
    """
    paths = sorted(Path(folder).glob(CODE_FILE_PATTERN))
    endings = {path.stem.partition("-of-")[2] for path in paths}
    totals = {ending for ending in endings if ending.isdecimal()}
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
    unchecked = [file for file in files if file.has_unchecked_actions]
    if unchecked:
        warnings.warn(
            f"{len(unchecked)} of {len(files)} code files in {folder} have format version 2, whose "
            f"actions are unchecked (they have no checksums); encode the data again to add them",
            RuntimeWarning,
            stacklevel=2,
        )
    return files
