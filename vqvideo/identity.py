"""Fingerprints of parts, from their registered names, options and weights.

A fingerprint decides whether stored codes belong to a model. It must not change if a class, buffer
or file is renamed, and must change with the part, its options or its weights. `Registry.build`
records the origin of every part; `fingerprint` hashes origins and weights.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from vqvideo.plugins import canonicalize_name

ORIGINS = "origins"  # attribute of a built part; the last origin is the outermost builder's
INITIAL_WEIGHTS = ("pretrained", "weights")  # options for the initial weights, not the current ones


class Origin(NamedTuple):
    """The registered name that a part was built under.

    Attributes:
        kind: kind of part, one of `vqvideo.plugins.PART_KINDS`.
        name: registered name.
        package: package that registered it.
        version: version of the package; empty for a part that only a decorator registered.
        options: JSON of the options that differ from the builder's defaults.
    """

    kind: str
    name: str
    package: str
    version: str
    options: str


def record_origin(part: Any, origin: Origin) -> None:
    """Append an origin to the origins of a built part, if it can have attributes."""
    if hasattr(part, "__dict__"):
        vars(part)[ORIGINS] = (*get_origins(part), origin)


def get_origins(part: Any) -> tuple[Origin, ...]:
    """Return the origins of a part, innermost builder first; empty for one built by hand."""
    origins: tuple[Origin, ...] = getattr(part, "__dict__", {}).get(ORIGINS, ())
    return origins


def format_options(builder: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Return the options that differ from the builder's defaults as JSON, sorted by name.

    So a new option with a default does not change fingerprints. A changed default needs a new
    config version, whose upgrade writes the old value into older configs. `pretrained` and
    `weights` are left out if the builder has an option `pretrained`: they only select the initial
    weights.

    >>> def builder(*, codebook_size: int = 512, code_dim: int = 64): ...
    >>> format_options(builder, {"codebook_size": 512, "code_dim": 8})
    '{"code_dim": 8}'
    """
    parameters = inspect.signature(builder).parameters
    ignored = INITIAL_WEIGHTS if "pretrained" in parameters else ()
    changed = {
        name: value
        for name, value in options.items()
        if name not in ignored and not _is_default(parameters.get(name), value)
    }
    return json.dumps(_to_plain(changed), sort_keys=True)


def _is_default(parameter: inspect.Parameter | None, value: Any) -> bool:
    if parameter is None or parameter.default is parameter.empty:
        return False
    return bool(_to_plain(parameter.default) == _to_plain(value))


def _to_plain(value: Any) -> Any:
    """Convert an option to JSON data, the same in every process; an unknown object to its type."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Real):  # NumPy's too; 1 and 1.0 are one value
        number = float(value)
        return int(number) if number.is_integer() else number
    if isinstance(value, nn.Module):  # a submodule, so its weights are among the part's
        return _to_plain(_identify(value))
    if isinstance(value, Mapping):
        return {str(key): _to_plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple | range):
        return [_to_plain(x) for x in value]
    if isinstance(value, set | frozenset):
        return sorted((_to_plain(x) for x in value), key=repr)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # an array or a tensor
        return _to_plain(value.tolist())
    return type(value).__qualname__


def fingerprint(*parts: nn.Module, context: object = ()) -> str:
    """Return a SHA-256 hash of parts: kinds, names, packages, options, and all weights in order.

    A part built by hand has no registered name; its class and its submodules' classes are hashed
    instead. A part that only a decorator registered counts without its module.

    Args:
        parts: parts to hash, in order.
        context: other values that affect the result; its `repr` is hashed.
    """
    digest = hashlib.sha256(repr(context).encode())
    for part in parts:
        digest.update(repr(_identify(part)).encode())
        for tensor in part.state_dict().values():
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def _identify(part: nn.Module) -> tuple[Any, ...]:
    origins = get_origins(part)
    if origins:
        kind, name, package, version, options = origins[-1]
        # The module of a part without a distribution has another name in a worker process.
        return kind, name, canonicalize_name(package) if version else "", options
    return tuple((type(module).__qualname__, module.extra_repr()) for module in part.modules())
