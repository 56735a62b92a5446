"""The file `config.json` of a checkpoint: today's format, and older ones brought up to it, one
version after the other.

A checkpoint of each version that ever was is kept under test (tests/checkpoints).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from vqvideo.plugins import ORIGIN

FORMAT_VERSION = 5
Header = dict[str, Any]
DType = Literal["float32", "float16", "int8"]


class CheckpointError(ValueError):
    """A folder that is no checkpoint, or one that does not fit; the message says why."""


def read_header(file: Path) -> Header:
    """What `config.json` says, in today's format; raises `CheckpointError` where it is none."""
    if not file.is_file():
        raise CheckpointError(f"{file.parent} is no checkpoint: it has no {file.name}")
    try:
        header = json.loads(file.read_text())
    except ValueError as cause:  # JSONDecodeError, UnicodeDecodeError
        raise CheckpointError(f"{file} is not JSON: {cause}") from cause
    expected = {"format_version", "dtype", "has_prior", "model", "plugins"}
    wrong = CheckpointError(f"{file} must hold exactly {', '.join(sorted(expected))}")
    if not isinstance(header, dict) or "format_version" not in header:
        raise wrong
    if isinstance(header.get("model"), dict):
        header = upgraded(header)
    if header["format_version"] != FORMAT_VERSION:  # first: another format has other entries
        raise CheckpointError(
            f"{file} has format version {header['format_version']}; this vqvideo reads "
            f"{FORMAT_VERSION}: install a newer one"
        )
    if (
        set(header) != expected
        or header["dtype"] not in get_args(DType)
        or not isinstance(header["has_prior"], bool)
        or not isinstance(header["model"], dict)
        or not _are_origins(header["plugins"])
    ):
        raise wrong
    read: Header = header
    return read


def _are_origins(plugins: object) -> bool:
    return isinstance(plugins, list) and all(
        isinstance(origin, dict)
        and set(origin) == set(ORIGIN)
        and all(isinstance(text, str) for text in origin.values())
        for origin in plugins
    )


def upgraded(header: Header) -> Header:
    """The same in today's format; what is older than version 1 or newer than today's stays."""
    while isinstance(version := header["format_version"], int) and version in UPGRADES:
        header = {**UPGRADES[version](header), "format_version": version + 1}
    read: Header = header
    return read


def patchify_had_relu_before_its_heads(header: Header) -> Header:
    """Version 1: networks named `patchify` were what `linear=False` is now."""
    model = dict(header["model"])
    for name in ("encoder", "decoder"):
        part = model.get(name)
        if isinstance(part, dict) and part.get("name") == "patchify":
            model[name] = {"linear": False, **part}
    return {**header, "model": model}


def timm_encoders_were_their_backbone_alone(header: Header) -> Header:
    """Version 2: the `timm` encoder called its `model` a `backbone`, gave it data as it is, and had
    no blocks after it.
    """
    encoder = header["model"].get("encoder")
    if not isinstance(encoder, dict) or encoder.get("name") != "timm":
        return header
    options = {"model" if name == "backbone" else name: x for name, x in encoder.items()}
    now = {"num_blocks": 0, "normalize": False, **options}
    return {**header, "model": {**header["model"], "encoder": now}}


def decoders_were_told_nothing(header: Header) -> Header:
    """Version 3: a model had no `cond` of its decoder."""
    return {**header, "model": {**header["model"], "cond": {}}}


def nobody_said_whose_parts_they_are(header: Header) -> Header:
    """Version 4: it was not written down which packages the parts of plugins came from."""
    return {**header, "plugins": []}


UPGRADES: dict[int, Callable[[Header], Header]] = {
    1: patchify_had_relu_before_its_heads,
    2: timm_encoders_were_their_backbone_alone,
    3: decoders_were_told_nothing,
    4: nobody_said_whose_parts_they_are,
}
