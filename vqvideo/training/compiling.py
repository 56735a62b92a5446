"""Networks compiled by torch, all but their quantizers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vqvideo.quantizers import Quantizer


@contextmanager
def compiled(model: nn.Module) -> Iterator[nn.Module]:
    """A model that compiles itself when it is first called, as long as the context lasts.

    Its weights are those of the given model. Quantizers run as they are: their search is written
    out for memory that a compiler would not save, and what they count changes from step to step.
    """
    quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
    for quantizer in quantizers:
        quantizer.forward = torch.compiler.disable(quantizer.forward)  # type: ignore[method-assign]
    try:
        yield torch.compile(model)  # type: ignore[misc]
    finally:
        for quantizer in quantizers:
            del quantizer.forward
