"""vqvideo: VQ-VAE models that encode and generate video, audio and images.

A VQ-VAE encodes data as a grid of codes and decodes it; a prior samples new codes (van den Oord et
al. 2017, arXiv 1711.00937). Start reading in `vqvideo/vqvae.py`.

>>> import vqvideo
>>> generator = vqvideo.build("image")                 # untrained
>>> "video" in vqvideo.list_models()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vqvideo.version import __version__

if TYPE_CHECKING:
    from vqvideo.checkpoint import load, save
    from vqvideo.commands.push import push_to_hub
    from vqvideo.cond import Cond
    from vqvideo.generator import Generator
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

_LAZY_IMPORTS = {
    "VQVAE": "vqvae",
    "Cond": "cond",
    "Generator": "generator",
    "build": "models",
    "codebook_report": "report",
    "list_models": "models",
    "list_plugins": "models",
    "load": "checkpoint",
    "push_to_hub": "commands.push",
    "save": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import vqvideo` is fast (PEP 562)."""
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'vqvideo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vqvideo.{_LAZY_IMPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
