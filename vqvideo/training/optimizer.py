"""What moves the weights: an optimizer, its learning rate, and which weights are treated apart."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from vqvideo.quantizers import Quantizer
from vqvideo.training.schedule import share_of_rate
from vqvideo.training.task import OptimizerConfig


def optimizer_of(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer for all parameters of a model.

    Those of a quantizer and of embeddings do not decay, or entries that nothing uses would shrink;
    and an optimizer that is made for matrices (Muon) leaves them to AdamW.

    Raises:
        ValueError: a run cannot work with this optimizer.
    """
    tables = {
        parameter
        for module in model.modules()
        if isinstance(module, Quantizer | nn.Embedding)
        for parameter in module.parameters()
    }
    others = [parameter for parameter in model.parameters() if parameter not in tables]
    groups: list[dict[str, Any]] = [{"params": others}]
    if tables:
        own = [parameter for parameter in model.parameters() if parameter in tables]
        groups.append({"params": own, "weight_decay": 0.0, "use_fallback": True})
    return _built(config, groups)


def _built(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    from timm.optim import create_optimizer_v2  # imports for a second

    _check_can_be_kept(config.name)
    return create_optimizer_v2(groups, opt=config.name, lr=rate, weight_decay=decay)


def _check_can_be_kept(name: str) -> None:
    """Raise `ValueError` for an optimizer that steps otherwise, or that a file of tensors and plain
    numbers cannot hold, before any work is done.
    """
    from timm.optim import create_optimizer_v2

    probe = torch.nn.Parameter(torch.ones(2, 2))
    probe.grad = torch.ones(2, 2)
    try:
        optimizer = create_optimizer_v2([{"params": [probe]}], opt=name, lr=1e-3)
        optimizer.step()
        state = optimizer.state_dict()
        json.dumps(state["param_groups"])
        kept = [value for values in state["state"].values() for value in values.values()]
        fits = all(isinstance(value, torch.Tensor | int | float) for value in kept)
    except (RuntimeError, TypeError, AssertionError) as cause:
        raise ValueError(f"a run cannot work with the optimizer {name!r}: {cause}") from cause
    if not fits:
        raise ValueError(f"a run cannot keep what the optimizer {name!r} remembers; take another")


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> None:
    """That of step 1 to `steps`: up over the warm-up, and down as the schedule says."""
    rise = min(1.0, step / max(config.warmup_steps, 1))
    fall = share_of_rate(config.schedule, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * rise * fall
