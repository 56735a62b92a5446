"""Compilation of networks with `torch.compile`, except for their quantizers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vqvideo.quantizers import Quantizer


@contextmanager
def compile_networks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a version of the model that is compiled at its first call, within the context.

    It shares its weights with the given model. Quantizers are not compiled: their nearest-neighbor
    search already bounds its memory by hand, and their statistics change at every step.
    """
    quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
    for quantizer in quantizers:
        quantizer.forward = torch.compiler.disable(quantizer.forward)  # type: ignore[method-assign]
    try:
        yield torch.compile(model)  # type: ignore[misc]
    finally:
        for quantizer in quantizers:
            del quantizer.forward
