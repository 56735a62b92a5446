"""The file `config.json` of a checkpoint: reading it, upgrading older formats, checking plugins.

Upgrades run one version at a time. The tests load a stored checkpoint of every format version
(tests/checkpoints).
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from vqvideo import config_v6
from vqvideo.identity import get_origins
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.plugins import (
    DISABLE_ENV_VAR,
    are_plugins_disabled,
    canonicalize_name,
    find_plugins,
    normalize_part_name,
)
from vqvideo.priors import PRIORS
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import Registry, UnknownNameError
from vqvideo.text_files import read_json

FORMAT_VERSION = 6
PART_REGISTRIES: dict[str, Registry[Any]] = {
    registry.kind: registry for registry in (ENCODERS, DECODERS, QUANTIZERS, PRIORS, LIKELIHOODS)
}
PRETRAINABLE_KINDS = ("encoder", "decoder")  # may be initialized with external weights
PLUGIN_RECORD_FIELDS = ("kind", "name", "package", "version")
MAX_MESSAGE_LENGTH = 2000  # characters; the values of a config may be long
Header = dict[str, Any]
PluginRecord = dict[str, str]
DType = Literal["float32", "float16", "int8"]


class CheckpointError(ValueError):
    """A folder is not a checkpoint, or not a valid one; the message says why."""


def read_header(file: Path) -> Header:
    """Read `config.json` and upgrade it to the current format.

    Raises:
        CheckpointError: the file is missing, invalid or of a newer format.
    """
    if not file.is_file():
        raise CheckpointError(f"{file.parent} is no checkpoint: it has no {file.name}")
    try:
        header = read_json(file)
    except (ValueError, OSError) as cause:  # also UnicodeDecodeError
        raise CheckpointError(f"{file} is not JSON: {cause}") from cause
    expected = {"format_version", "dtype", "has_prior", "model", "plugins"}
    wrong = CheckpointError(f"{file} must hold exactly {', '.join(sorted(expected))}")
    if not isinstance(header, dict) or "format_version" not in header:
        raise wrong
    stored_version = header["format_version"]
    if type(stored_version) is not int or stored_version < 1:  # True is an int, and 6.0 == 6
        raise CheckpointError(
            f"{file} must have an integer >= 1 as format version, got "
            f"{reprlib.repr(stored_version)}"
        )
    if stored_version > FORMAT_VERSION:  # checked first: newer formats differ in entries
        raise CheckpointError(
            f"{file} has format version {stored_version}; this vqvideo reads {FORMAT_VERSION}: "
            f"install a newer one"
        )
    if not isinstance(header.get("model"), dict):
        raise wrong
    try:
        header = upgrade_header(header)
    except ValueError as cause:
        raise CheckpointError(f"{file}: {cause}") from cause
    if (
        set(header) != expected
        or header["dtype"] not in get_args(DType)
        or not isinstance(header["has_prior"], bool)
        or not _is_plugin_record_list(header["plugins"])
    ):
        raise wrong
    read: Header = {**header, "renamed_keys": config_v6.KEYS if stored_version < 6 else {}}
    return read


def _is_plugin_record_list(plugins: object) -> bool:
    return isinstance(plugins, list) and all(
        isinstance(record, dict)
        and set(record) == set(PLUGIN_RECORD_FIELDS)
        and all(isinstance(text, str) for text in record.values())
        and record["kind"] in PART_REGISTRIES
        for record in plugins
    )


def disable_pretrained(model: dict[str, Any]) -> dict[str, Any]:
    """Return a config (plain data) that builds the same model without loading external weights.

    Used for models whose weights are in the checkpoint. Resets `pretrained` of every part, and
    `weights` of encoders and decoders that take both; other parts may use `weights` differently.
    """
    entries: dict[str, Any] = {}
    for name, part in model.items():
        if isinstance(part, dict) and part.get("pretrained"):
            part = {**part, "pretrained": False}
        if isinstance(part, dict) and isinstance(part.get("weights"), str | Path):
            part = {**part, "weights": None} if _is_pretrainable(name, part) else part
        entries[name] = part
    return entries


def _is_pretrainable(entry: str, part: dict[str, Any]) -> bool:
    """Return whether a part can load external weights; false if it is not registered."""
    try:
        return entry in PRETRAINABLE_KINDS and PART_REGISTRIES[entry].has_option(
            part["name"], "pretrained"
        )
    except (KeyError, UnknownNameError, ImportError):
        return False


def collect_plugin_records(generator: nn.Module) -> list[PluginRecord]:
    """Return kind, name, package and version of all parts that plugins built, nested ones too."""
    origins = {origin for part in generator.modules() for origin in get_origins(part)}
    plugins = {origin[:4] for origin in origins if origin.version and origin.package != "vqvideo"}
    kinds = list(PART_REGISTRIES)
    ordered = sorted(plugins, key=lambda origin: (kinds.index(origin[0]), *origin[1:]))
    return [dict(zip(PLUGIN_RECORD_FIELDS, origin, strict=True)) for origin in ordered]


def describe_build_error(cause: Exception, plugins: Sequence[PluginRecord]) -> str:
    """Describe the error of a builder, with its notes and the plugins that differ from the saved
    ones.
    """
    has_text = isinstance(cause, ValueError | TypeError | RuntimeError | ImportError) and str(cause)
    message = str(cause) if has_text else f"{type(cause).__name__}: {cause}"
    notes = [f"({note})" for note in getattr(cause, "__notes__", ())]
    mismatches = [text for record in plugins if (text := _describe_mismatch(record))]
    text = "; ".join([" ".join([message, *notes]), *mismatches])
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:MAX_MESSAGE_LENGTH]} ..."


def check_plugins(file: Path, plugins: Sequence[PluginRecord]) -> None:
    """Check the plugins that a checkpoint was saved with against the parts that were built.

    Weights may fit another part of the same name. So a part of another package raises
    `CheckpointError`; another version of the same package issues a `RuntimeWarning`.
    """
    for record in plugins:
        owner = PART_REGISTRIES[record["kind"]].get_owner(record["name"])
        mismatch = _describe_mismatch(record)
        if owner is None or not mismatch:
            continue  # not registered, yet all was built: this version does not need the part
        if canonicalize_name(owner[0]) != canonicalize_name(record["package"]):
            raise CheckpointError(f"{file}: {mismatch}")
        warnings.warn(f"{file}: {mismatch}", RuntimeWarning, stacklevel=4)


def _describe_mismatch(record: PluginRecord) -> str:
    """Describe how a part's owner differs from the saved one and what to do; "" if it does not."""
    kind, name, package, version = (record[key] for key in PLUGIN_RECORD_FIELDS)
    owner = PART_REGISTRIES[kind].get_owner(name)
    saved = f"{kind} {name!r} was saved with {package} {version}"
    if owner and canonicalize_name(owner[0]) == canonicalize_name(package):
        is_same = owner[1] in ("", version)
        return "" if is_same else f"{saved}, but version {owner[1]} is installed"
    if are_plugins_disabled():
        return f"{saved}: unset {DISABLE_ENV_VAR}, which disables plugins"
    if owner is None:
        return (
            f"{kind} {name!r} is from another package: install {package} (it was saved with "
            f"version {version})"
        )
    if owner[0] == "vqvideo":
        return f"{saved}, but it is a built-in part here: install a vqvideo without it"
    if not owner[1]:
        return f"{saved}, but the module {owner[0]} registered it here: do not import that module"
    packages = [item.package for item in find_plugins() if (item.kind, item.name) == (kind, name)]
    is_installed = canonicalize_name(package) in map(canonicalize_name, packages)
    advice = f"uninstall {owner[0]}" + ("" if is_installed else f" and install {package}")
    return f"{saved}, but {owner[0]} {owner[1]} provides it here: {advice}"


def upgrade_header(header: Header) -> Header:
    """Upgrade a header to the current format; leave unknown and newer versions unchanged."""
    while (version := header["format_version"]) in UPGRADES:
        header = {**UPGRADES[version](header), "format_version": version + 1}
    upgraded: Header = header
    return upgraded


def upgrade_v1(header: Header) -> Header:
    """Upgrade version 1, where `patchify` networks had no option `linear`: it was false."""
    model = dict(header["model"])
    for name in ("encoder", "decoder"):
        part = model.get(name)
        if isinstance(part, dict) and part.get("name") == "patchify":
            model[name] = {"linear": False, **part}
    return {**header, "model": model}


def upgrade_v2(header: Header) -> Header:
    """Upgrade version 2, where the `timm` encoder called its `model` `backbone`, did not normalize
    its input and had no blocks after the backbone.
    """
    encoder = header["model"].get("encoder")
    if not isinstance(encoder, dict) or encoder.get("name") != "timm":
        return header
    options = {"model" if name == "backbone" else name: x for name, x in encoder.items()}
    if len(options) < len(encoder):
        raise ValueError("encoder 'timm' has both 'backbone' and 'model'")
    upgraded = {"num_blocks": 0, "normalize": False, **options}
    return {**header, "model": {**header["model"], "encoder": upgraded}}


def upgrade_v3(header: Header) -> Header:
    """Upgrade version 3, where the decoder had no `cond`."""
    return {**header, "model": {**header["model"], "cond": {}}}


def upgrade_v4(header: Header) -> Header:
    """Upgrade version 4, which did not record the packages of plugin parts."""
    return {**header, "plugins": []}


def upgrade_v5(header: Header) -> Header:
    """Upgrade version 5, where options had other names and part names were not normalized."""
    if not _is_plugin_record_list(header.get("plugins")):
        return header  # refused later, with all other entries
    plugins = [{**x, "name": normalize_part_name(x["name"])} for x in header["plugins"]]
    names = {(x["kind"], x["name"]) for x in plugins}
    model = config_v6.rename_options(header["model"], names)
    return {**header, "model": model, "plugins": plugins}


UPGRADES: dict[int, Callable[[Header], Header]] = {
    1: upgrade_v1,
    2: upgrade_v2,
    3: upgrade_v3,
    4: upgrade_v4,
    5: upgrade_v5,
}
