"""Build models by name, with or without pretrained weights; list models and plugins."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from vqvideo.checkpoint import load
from vqvideo.config import MODELS, build_generator
from vqvideo.config_versions import PART_REGISTRIES
from vqvideo.generator import Generator
from vqvideo.plugins import Plugin, find_plugins, normalize_part_name
from vqvideo.registry import Registry

WEIGHTS_DIR = Path(__file__).parent / "weights"
REGISTRIES: dict[str, Registry[Any]] = {MODELS.kind: MODELS, **PART_REGISTRIES}


def build(model: str, *, pretrained: bool = False, **changes: Any) -> Generator:
    """Build a model by its name.

    Args:
        model: name of a model, see `list_models`.
        pretrained: load the weights that ship with the package.
        changes: entries of the config to change (see `vqvideo.config.GeneratorConfig`). A part may
            be a name, `prior="masked3d"`, or a mapping, `quantizer={"name": "ema",
            "codebook_size": 1024}`; if its name is unchanged, its other options are kept.

    Returns:
        A `Generator` in evaluation mode.

    Raises:
        UnknownNameError: no such model or part; the message suggests and lists names.
        ValueError: unknown option, or changes to a pretrained model.

    >>> generator = build("image", quantizer={"codebook_size": 64})
    >>> generator.vqvae.quantizer.codebook_size
    64
    """
    config = MODELS.build(model)
    if not pretrained:
        return build_generator(config.merge(**changes)).eval()
    if changes:
        raise ValueError(
            f"pretrained weights fit the model as it is; leave out {', '.join(changes)} "
            f"or pretrained=True"
        )
    return load(get_pretrained_path(model))


def get_pretrained_path(model: str) -> Path:
    """Return the folder with a model's pretrained weights; raise `ValueError` if there are none.

    >>> sorted(path.name for path in get_pretrained_path("video").iterdir())
    ['NOTICE', 'config.json', 'model.safetensors']
    """
    model = normalize_part_name(model)
    MODELS.get(model)  # raises for an unknown name and suggests the closest one
    folder = WEIGHTS_DIR / model
    if not folder.is_dir():
        available = sorted(path.name for path in WEIGHTS_DIR.glob("*") if path.is_dir())
        raise ValueError(
            f"there are no pretrained weights for {model!r}; there are for: {', '.join(available)}"
        )
    return folder


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of models, including plugins, that match a wildcard pattern.

    >>> "video" in list_models("vid*"), "audio" in list_models("vid*")
    (True, False)
    """
    return MODELS.list_names(pattern)


def list_plugins(*, load: bool = False) -> tuple[Plugin, ...]:
    """Return all parts that installed packages provide, with their status; see `vqvideo.plugins`.

    The environment variable `VQVIDEO_DISABLE_PLUGINS=1` disables plugins.

    Args:
        load: import every plugin, to detect failures. Otherwise none is imported, and an
            "available" one may still fail.

    >>> [str(plugin) for plugin in list_plugins() if plugin.package == "vqvideo"]
    []
    """
    for registry in REGISTRIES.values():
        for plugin in registry.list_plugins():  # also marks shadowed plugins
            if load and plugin.status == "available":
                with contextlib.suppress(Exception):  # recorded in its status and error
                    registry.load(plugin)
    return find_plugins()
