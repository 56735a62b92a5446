"""vqvideo: video, audio and images as discrete codes, and new clips from them.

A VQ-VAE turns data into a grid of codes and back; a prior over the codes makes new ones (van den
Oord et al. 2017, arXiv 1711.00937). Start reading in `vqvideo/vqvae.py`.

>>> import vqvideo
>>> generator = vqvideo.build("image")                 # a model's name; untrained
>>> "video" in vqvideo.list_models()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vqvideo.version import __version__

if TYPE_CHECKING:
    from vqvideo.checkpoint import load, save
    from vqvideo.cond import Cond
    from vqvideo.generator import Generator
    from vqvideo.jobs.push import push_to_hub
    from vqvideo.models import build, list_models, list_plugins
    from vqvideo.report import codebook_report
    from vqvideo.vqvae import VQVAE

__all__ = [
    "VQVAE",
    "Cond",
    "Generator",
    "__version__",
    "build",
    "codebook_report",
    "list_models",
    "list_plugins",
    "load",
    "push_to_hub",
    "save",
]

_HOME = {
    "VQVAE": "vqvae",
    "Cond": "cond",
    "Generator": "generator",
    "build": "models",
    "codebook_report": "report",
    "list_models": "models",
    "list_plugins": "models",
    "load": "checkpoint",
    "push_to_hub": "jobs.push",
    "save": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import vqvideo` is quick (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'vqvideo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vqvideo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
