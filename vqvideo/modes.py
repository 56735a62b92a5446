"""A context manager for evaluation mode that restores the mode of every submodule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: object) -> Iterator[None]:
    """Put a module and its submodules in evaluation mode; ignore anything that is not a module.

    Unlike `module.eval()` followed by `module.train()`, this restores submodules whose mode differs
    from that of the module, such as frozen ones.
    """
    submodules = module.modules() if isinstance(module, nn.Module) else ()
    changed = [
        sub for sub in submodules if sub.training
    ]  # reading a flag is faster than setting it
    for sub in changed:
        sub.training = False
    try:
        yield
    finally:
        for sub in changed:
            sub.training = True
