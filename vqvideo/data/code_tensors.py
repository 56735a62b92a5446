"""The tensors of a code file: opening them, their checksums, names, dtypes and shapes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqvideo.data.code_header import ClipLocation, CodeClip, CodeFileError, ParsedHeader

ACTION_DTYPES = {  # dtypes of actions, with their names in safetensors
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def open_safetensors(path: Path) -> Any:
    """Open a file and return the handle of `safetensors.safe_open`.

    Raises:
        FileNotFoundError: the file does not exist.
        CodeFileError: it is no file, or not in the format of safetensors.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the path")
    if not path.is_file():  # opening a pipe would wait for a writer
        raise CodeFileError(f"{path} must be a code file, got a folder or a device")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as cause:
        raise CodeFileError(f"{path} is not a code file, or is damaged: {cause!s:.300}") from cause


def check_tensors(file: Any, keys: set[str], parsed: ParsedHeader) -> None:
    """Raise `ValueError` unless the tensors are exactly those that the header describes.

    Args:
        file: see `open_safetensors`.
        keys: names of the tensors.
        parsed: the parsed header.
    """
    codes, is_format_2 = file.get_slice("codes"), parsed.format_version < 3
    if codes.get_dtype() != "U8" or len(codes.get_shape()) != 1:
        raise ValueError(
            f"its codes must be U8 [bytes], got {codes.get_dtype()} {shorten(codes.get_shape())}"
        )
    size, expected = codes.get_shape()[0], sum(place.num_bytes for place in parsed.locations)
    if expected > size:
        raise ValueError(f"its clips need more bytes than it has: {expected}, got {size}")
    if expected < size and (expected or not is_format_2):  # format 2 has a byte if it has no clips
        raise ValueError(f"its clips need fewer bytes than it has: {expected}, got {size}")
    names = [f"actions.{index}" for index in range(len(parsed.clips))]
    unknown = keys - {"codes"} - set(names)
    if unknown:
        raise ValueError(f"it has a tensor {shorten(min(unknown))} that belongs to no clip")
    for name, clip, place in zip(names, parsed.clips, parsed.locations, strict=True):
        if not is_format_2 and (place.actions_crc32 is not None) != (name in keys):
            raise ValueError(f"{name} {'has no checksum' if name in keys else 'is missing'}")
        if name in keys:
            actions = file.get_slice(name)
            check_actions(clip, actions.get_dtype(), actions.get_shape())


def check_actions(clip: CodeClip, dtype: str | None, shape: Sequence[int]) -> None:
    """Raise `ValueError` unless actions fit a clip.

    Args:
        clip: the clip.
        dtype: one of the values of `ACTION_DTYPES`; None for any other dtype.
        shape: must be `[length]` or `[length, a]`.
    """
    if dtype not in ACTION_DTYPES.values() or len(shape) not in (1, 2) or shape[0] != clip.length:
        *names, last = ACTION_DTYPES.values()
        dtypes = f"{', '.join(names)} or {last}"
        raise ValueError(
            f"the actions of {clip.source} must be [{clip.length}] or [{clip.length}, a], with "
            f"dtype {dtypes}; got {dtype or 'another dtype'} {shorten(list(shape))}"
        )


def locate_clip(offset: int, clip: CodeClip, data: bytes, actions: Tensor | None) -> ClipLocation:
    """Return the location and the checksums of a clip to write, whose codes start at `offset`.

    Raises:
        ValueError: the actions do not fit the clip, or are not finite.
    """
    actions_crc32 = None
    if actions is not None:
        check_actions(clip, ACTION_DTYPES.get(actions.dtype), actions.shape)
        if not torch.isfinite(actions).all():
            raise ValueError("actions must be finite, got NaN or infinity")
        actions_crc32 = compute_actions_crc(actions)
    return ClipLocation(offset, len(data), zlib.crc32(data), actions_crc32)


def compute_actions_crc(actions: Tensor) -> int:
    """Return the CRC-32 of dtype, shape and data: of "I64 [3] " and 24 bytes, for example."""
    prefix = f"{ACTION_DTYPES[actions.dtype]} {list(actions.shape)} "
    return zlib.crc32(actions.detach().cpu().numpy().tobytes(), zlib.crc32(prefix.encode()))
