"""The renaming of options, state-dict keys and run records between config versions 5 and 6.

Only built-in parts are renamed: a plugin's part may use the same words for something else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from vqvideo.plugins import normalize_part_name
from vqvideo.priors import get_default_prior

T = TypeVar("T")
KEYS = {  # dot-separated names in state-dict keys: old to new
    "load": "usage_ema",
    "started": "initialized",
    "counts": "cluster_size",
    "sums": "embed_sum",
    "wide": "conv1",
    "narrow": "conv2",
    "first": "bos_embedding",
    "place": "position_proj",
    "places": "coord_embedding",
    "cond": "cond_proj",
    "join": "merge",
    "join_actions": "action_proj",
    "earlier": "code_embeddings",
    "batches_seen": "num_batches_tracked",
}
RECORD_KEYS = {  # of `training.json`: old to new
    "about": "metadata",
    "accumulate": "gradient_accumulation_steps",
    "held_out": "num_val_windows",
    "codes_of": "tokenizer",
}
CODEBOOK_OPTIONS = {"start": "init", "revive_below": "dead_code_threshold"}
KERNEL_OPTIONS = {"first_kernel": "first_kernel_size", "kernel": "kernel_size"}
OPTIONS = {  # of built-in parts, by kind and registered name: old to new
    ("quantizer", "vector"): CODEBOOK_OPTIONS,
    ("quantizer", "ema"): CODEBOOK_OPTIONS,
    ("encoder", "patchify"): {"linear": "linear_init"},
    ("decoder", "patchify"): {"linear": "linear_init"},
    ("encoder", "mel"): {"hop": "hop_length", "num_bands": "num_mel_bins"},
    ("decoder", "spectral"): {"hop": "hop_length"},
    ("prior", "pixelcnn"): KERNEL_OPTIONS,
    ("prior", "masked3d"): {**KERNEL_OPTIONS, "time_kernel": "time_kernel_size"},
    ("likelihood", "autoregressive"): {"features": "num_features"},
}
# Options that are parts themselves, by kind and name: their kind, and their name if none is given.
NESTED: dict[tuple[str, str], dict[str, tuple[str, str | None]]] = {
    ("quantizer", "product"): {"part": ("quantizer", "ema")},
    ("quantizer", "residual"): {"part": ("quantizer", "ema")},
    ("prior", "vqvae"): {
        "quantizer": ("quantizer", "ema"),
        "bottom": ("prior", None),  # the default prior of the rank
        "top": ("prior", None),
    },
    ("likelihood", "autoregressive"): {"prior": ("prior", None)},
}


def rename_options(model: Mapping[str, Any], plugins: Collection[tuple[str, str]]) -> Any:
    """Rename the options of the built-in parts in a config, nested parts included.

    Args:
        model: entries of a `GeneratorConfig` as plain data.
        plugins: kind and name of the parts that are not built in.

    Raises:
        ValueError: a part has an option under its old and its new name.
    """
    shape = model.get("sample_shape")
    rank = len(shape) if isinstance(shape, list | tuple) and len(shape) in (1, 2, 3) else None
    default_prior = get_default_prior(rank) if rank else None

    def rename(part: Any, kind: str, default_name: str | None) -> Any:
        if not isinstance(part, dict):
            return part
        name = part.get("name", default_name or (default_prior if kind == "prior" else None))
        name = normalize_part_name(name) if isinstance(name, str) else None
        if name is None or (kind, name) in plugins:
            return part
        renamed = OPTIONS.get((kind, name), {})
        nested = NESTED.get((kind, name), {})
        options = {
            renamed.get(key, key): rename(value, *nested[key]) if key in nested else value
            for key, value in part.items()
        }
        if len(options) < len(part):
            raise ValueError(f"{kind} {name!r} has an option under both its old and its new name")
        return options

    return {key: rename(value, key, None) for key, value in model.items()}


def rename_keys(
    tensors: Mapping[str, T], renamed: Mapping[str, str], expected: Collection[str]
) -> dict[str, T]:
    """Rename the dot-separated names in state-dict keys that the model does not have.

    Of the names in a key, any may be old ones and any a plugin's own; the combination that is a
    key of the model is taken. A key without one, or whose new name is stored as well, stays as it
    is. The time is linear in the number of keys, however many names of each may be old ones.

    Args:
        tensors: the stored tensors, or anything about them, by their keys.
        renamed: old to new names.
        expected: keys of the model's state dict.

    >>> rename_keys({"quantizer.load": 1}, {"load": "usage_ema"}, {"quantizer.usage_ema"})
    {'quantizer.usage_ema': 1}
    """

    def to_new_names(key: str) -> str:
        return ".".join(renamed.get(name, name) for name in key.split("."))

    def find(key: str) -> str | None:
        """Return the key of the model that `key` is an old name of, with the fewest changes."""
        choices = []
        for choice in by_new_names.get(to_new_names(key), ()):
            pairs = list(zip(key.split("."), choice.split("."), strict=True))
            if all(new in (old, renamed.get(old)) for old, new in pairs):
                choices.append(([old != new for old, new in pairs], choice))
        return min(choices)[1] if choices else None

    by_new_names: dict[str, list[str]] = {}
    for key in expected:
        by_new_names.setdefault(to_new_names(key), []).append(key)
    result = {}
    for key, tensor in tensors.items():
        stem, _, suffix = key.rpartition(".")
        new = find(key)
        if new is None and (new_stem := find(stem)) is not None:  # scale of int8 weights
            new = f"{new_stem}.{suffix}"
        is_free = new is not None and new not in tensors and new not in result
        result[new if is_free and new is not None else key] = tensor
    return result


def rename_record(record: Any) -> Any:
    """Rename the keys of a run's `training.json` or of a line of its `log.jsonl`."""
    if not isinstance(record, dict):
        return record
    return {
        RECORD_KEYS.get(key, re.sub("^held_out_", "val_", key)): rename_record(value)
        for key, value in record.items()
    }
