"""Models by name: build one, with or without the weights that ship; list what there is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from vqvideo import presets  # noqa: F401 - registers the built-in models
from vqvideo.checkpoint import load
from vqvideo.config import MODELS, build_generator
from vqvideo.formats import PARTS
from vqvideo.generator import Generator
from vqvideo.plugins import Plugin, found
from vqvideo.registry import Registry

SHIPPED = Path(__file__).parent / "weights"
REGISTRIES: dict[str, Registry[Any]] = {MODELS.kind: MODELS, **PARTS}


def build(model: str, *, pretrained: bool = False, **changes: Any) -> Generator:
    """Build a model by its name.

    Args:
        model: see `list_models`.
        pretrained: load the weights that ship with the package.
        changes: entries of its config (see `vqvideo.config.GeneratorConfig`). A part may be a
            name, `prior="masked3d"`, or a mapping, `quantizer={"name": "ema",
            "codebook_size": 1024}`; under the same name the other options stay as they are.

    Returns:
        A `Generator` in evaluation mode.

    Raises:
        UnknownNameError: no such model or part; the message suggests and lists.
        ValueError: an option that does not exist, or changes to a pretrained model.

    >>> generator = build("image", quantizer={"codebook_size": 64})
    >>> generator.vqvae.quantizer.codebook_size
    64
    """
    config = MODELS.build(model)
    if not pretrained:
        return build_generator(config.updated(**changes)).eval()
    if changes:
        raise ValueError(
            f"pretrained weights fit the model as it is; leave out {', '.join(changes)} "
            f"or pretrained=True"
        )
    return load(shipped(model))


def shipped(model: str) -> Path:
    """The folder with the weights that ship for a model; raises `ValueError` if none do.

    >>> sorted(path.name for path in shipped("video").iterdir())
    ['NOTICE', 'config.json', 'model.safetensors']
    """
    MODELS.get(model)  # an unknown name is answered with the nearest
    folder = SHIPPED / model
    if not folder.is_dir():
        have = sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())
        raise ValueError(f"no weights ship for {model!r}; they do for: {', '.join(have)}")
    return folder


def list_models(pattern: str = "*") -> list[str]:
    """Names of models, those of installed plugins included; `pattern` is a wildcard.

    >>> "video" in list_models("vid*"), "audio" in list_models("vid*")
    (True, False)
    """
    return MODELS.names(pattern)


def list_plugins(*, load: bool = False) -> tuple[Plugin, ...]:
    """All parts that installed packages offer, and how each fares; see `vqvideo.plugins`.

    The environment variable `VQVIDEO_DISABLE_PLUGINS=1` turns them off.

    Args:
        load: import each, so that those that fail are known. Otherwise none is imported, and one
            that is "available" may yet fail.

    >>> [str(plugin) for plugin in list_plugins() if plugin.package == "vqvideo"]
    []
    """
    for registry in REGISTRIES.values():
        for plugin in registry.plugins():  # which says those of them that are hidden
            if load and plugin.status == "available":
                with contextlib.suppress(Exception):  # its status and error tell
                    registry.load(plugin)
    return found()
