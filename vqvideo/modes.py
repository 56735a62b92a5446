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
    parts = module.modules() if isinstance(module, nn.Module) else ()
    changed = [part for part in parts if part.training]  # setting a flag takes longer than reading
    for part in changed:
        part.training = False
    try:
        yield
    finally:
        for part in changed:
            part.training = True
