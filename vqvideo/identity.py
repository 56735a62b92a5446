"""Identify a part by what it was built as, not by what its class is called.

A fingerprint decides whether stored codes belong to a model, so it must survive a renamed class,
buffer or file, and change with the part, its options or its weights. `Registry.build` records the
origin of every part; `fingerprint` hashes origins and weights.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

ORIGINS = "origins"  # attribute of a built part; the last origin is the outermost builder's
INITIAL_WEIGHTS = ("pretrained", "weights")  # where weights came from first: not what they are


class Origin(NamedTuple):
    """The registered name that a part was built under.

    Attributes:
        kind: of part, one of `vqvideo.plugins.KINDS`.
        name: that it is registered under.
        package: that registered it.
        version: of the package; empty for a part that only a decorator registered.
        options: JSON of the options that differ from the builder's defaults.
    """

    kind: str
    name: str
    package: str
    version: str
    options: str


def record_origin(part: Any, origin: Origin) -> None:
    """Append an origin to those of a built part; a part without attributes keeps none."""
    if hasattr(part, "__dict__"):
        vars(part)[ORIGINS] = (*get_origins(part), origin)


def get_origins(part: Any) -> tuple[Origin, ...]:
    """Return the origins of a part, innermost builder first; empty for one built by hand."""
    origins: tuple[Origin, ...] = getattr(part, "__dict__", {}).get(ORIGINS, ())
    return origins


def format_options(builder: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Return the options that differ from the builder's defaults as JSON, sorted by name.

    An option added later with a default therefore changes no fingerprint. A default that changes
    needs a new config version, which writes the old value into older configs. `pretrained` and
    `weights` are left out where the builder has both: they say where weights came from first.

    >>> def builder(*, codebook_size: int = 512, code_dim: int = 64): ...
    >>> format_options(builder, {"codebook_size": 512, "code_dim": 8})
    '{"code_dim": 8}'
    """
    parameters = inspect.signature(builder).parameters
    ignored = INITIAL_WEIGHTS if "pretrained" in parameters else ()
    different = {
        name: value
        for name, value in options.items()
        if name not in ignored and not _is_default(parameters.get(name), value)
    }
    return json.dumps(different, sort_keys=True, default=repr)


def _is_default(parameter: inspect.Parameter | None, value: Any) -> bool:
    if parameter is None or parameter.default is parameter.empty:
        return False
    return json.dumps(parameter.default, default=repr) == json.dumps(value, default=repr)


def fingerprint(*parts: nn.Module, context: object = ()) -> str:
    """Return a SHA-256 hash of parts: kinds, names, packages, options, and all weights in order.

    A part built by hand has no registered name; it counts by its class and those of its submodules.

    Args:
        parts: to hash, in order.
        context: what else decides the result; its `repr` is hashed.
    """
    digest = hashlib.sha256(repr(context).encode())
    for part in parts:
        digest.update(repr(_identify(part)).encode())
        for tensor in part.state_dict().values():
            digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            exact = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(exact.numpy().tobytes())
    return digest.hexdigest()


def _identify(part: nn.Module) -> tuple[Any, ...]:
    origins = get_origins(part)
    if origins:
        kind, name, package, _, options = origins[-1]
        return kind, name, package, options
    return tuple((type(module).__qualname__, module.extra_repr()) for module in part.modules())
