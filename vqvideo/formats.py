"""Older formats of `config.json`, brought up to today's one version after the other.

A checkpoint of each version that ever was is kept under test (tests/checkpoints).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FORMAT_VERSION = 5
Header = dict[str, Any]


def upgraded(header: Header) -> Header:
    """The same in today's format; what is older than version 1 or newer than today's stays."""
    while isinstance(version := header["format_version"], int) and version in UPGRADES:
        header = {**UPGRADES[version](header), "format_version": version + 1}
    return header


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
