"""Evaluation mode for a while, every part given its own mode back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: object) -> Iterator[None]:
    """Put a module and its parts in evaluation mode; anything that is no module is left alone.

    Unlike `module.eval()` and then `module.train()`, a part that was in another mode than the
    whole (frozen, say) is so again afterwards.
    """
    parts = list(module.modules()) if isinstance(module, nn.Module) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
