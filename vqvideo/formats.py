"""The file `config.json` of a checkpoint: what it says of a model, and of the packages that its
parts came from; older formats, brought up to today's one version after the other.

A checkpoint of each version that ever was is kept under test (tests/checkpoints).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from vqvideo.identity import get_origins
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.plugins import DISABLE, are_disabled, canonical, found
from vqvideo.priors import PRIORS
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import Registry, UnknownNameError

FORMAT_VERSION = 5
PARTS: dict[str, Registry[Any]] = {
    registry.kind: registry for registry in (ENCODERS, DECODERS, QUANTIZERS, PRIORS, LIKELIHOODS)
}
FETCHING = ("encoder", "decoder")  # may begin with weights from elsewhere
ORIGIN = ("kind", "name", "package", "version")  # what is kept of each part that plugins built
Header = dict[str, Any]
Origin = dict[str, str]
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
        and origin["kind"] in PARTS
        for origin in plugins
    )


def offline(model: dict[str, Any]) -> dict[str, Any]:
    """A config as plain data that asks for no weights from elsewhere; what it builds is the same.

    For a model whose weights are at hand: no part fetches any (`pretrained`), and no encoder or
    decoder that could reads a file of them (`weights`). To other parts the word may mean anything.
    """
    entries: dict[str, Any] = {}
    for name, part in model.items():
        if isinstance(part, dict) and part.get("pretrained"):
            part = {**part, "pretrained": False}
        if isinstance(part, dict) and isinstance(part.get("weights"), str | Path):
            part = {**part, "weights": None} if _fetches(name, part) else part
        entries[name] = part
    return entries


def _fetches(entry: str, part: dict[str, Any]) -> bool:
    """Whether a part may begin with weights from elsewhere; not one that nobody registered."""
    try:
        return entry in FETCHING and PARTS[entry].takes(part["name"], "pretrained")
    except (KeyError, UnknownNameError, ImportError):
        return False


def origins(generator: nn.Module) -> list[Origin]:
    """The parts that plugins built, those inside others too: kind, name, package and version."""
    every = {origin for part in generator.modules() for origin in get_origins(part)}
    plugins = {origin[:4] for origin in every if origin.version and origin.package != "vqvideo"}
    kinds = list(PARTS)
    ordered = sorted(plugins, key=lambda origin: (kinds.index(origin[0]), *origin[1:]))
    return [dict(zip(ORIGIN, origin, strict=True)) for origin in ordered]


def why_not_built(cause: Exception, plugins: Sequence[Origin]) -> str:
    """What a builder said, whose it is, and which of the plugins that were used are not here."""
    written = isinstance(cause, ValueError | TypeError | RuntimeError | ImportError) and str(cause)
    said = str(cause) if written else f"{type(cause).__name__}: {cause}"
    notes = [f"({note})" for note in getattr(cause, "__notes__", ())]
    changes = [sentence for origin in plugins if (sentence := _change(origin))]
    return "; ".join([" ".join([said, *notes]), *changes])


def check_plugins(file: Path, plugins: Sequence[Origin]) -> None:
    """Hold the plugins that a checkpoint was saved with against the parts that it was built with.

    Weights may fit a part of the same name that is something else. So a part of another package
    raises `CheckpointError`; the same package in another version draws a `RuntimeWarning`.
    """
    for origin in plugins:
        owner, change = PARTS[origin["kind"]].owner(origin["name"]), _change(origin)
        if owner is None or not change:
            continue  # nobody has the name, and yet all was built: a version did without the part
        if canonical(owner[0]) != canonical(origin["package"]):
            raise CheckpointError(f"{file}: {change}")
        warnings.warn(f"{file}: {change}", RuntimeWarning, stacklevel=4)


def _change(origin: Origin) -> str:
    """What is not as it was when a part was saved, and what to do; "" if all is."""
    kind, name, package, version = (origin[key] for key in ORIGIN)
    owner = PARTS[kind].owner(name)
    was = f"{kind} {name!r} was saved with {package} {version}"
    if owner and canonical(owner[0]) == canonical(package):
        return f"{was}, here is {owner[1]}" if owner[1] not in ("", version) else ""
    if are_disabled():
        return f"{was}: unset {DISABLE}, which turns plugins off"
    if owner is None:
        return (
            f"{kind} {name!r} is of another package: install {package} (it was saved with "
            f"version {version})"
        )
    if owner[0] == "vqvideo":
        return f"{was}, here a built-in part has that name: install a vqvideo without it"
    if not owner[1]:
        return f"{was}, here the module {owner[0]} registered another part: do without it"
    names = [each.package for each in found() if (each.kind, each.name) == (kind, name)]
    here = canonical(package) in map(canonical, names)
    advice = f"uninstall {owner[0]}" + ("" if here else f" and install {package}")
    return f"{was}, here that of {owner[0]} {owner[1]} has the name: {advice}"


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
