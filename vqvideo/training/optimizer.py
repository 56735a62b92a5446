"""Optimizer, its parameter groups and its learning rate."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from vqvideo.quantizers import Quantizer
from vqvideo.training.muon import Muon
from vqvideo.training.precision import has_bf16
from vqvideo.training.schedule import get_lr_factor
from vqvideo.training.task import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build the optimizer for all parameters of a model.

    Parameters of quantizers and embeddings have no weight decay, because unused entries would
    shrink. Muon, which is for matrices that map vectors to vectors, updates them by AdamW.

    Raises:
        ValueError: the optimizer is not supported.
    """
    no_decay = {
        parameter
        for module in model.modules()
        if isinstance(module, Quantizer | nn.Embedding)
        for parameter in module.parameters()
    }
    decay_params = [parameter for parameter in model.parameters() if parameter not in no_decay]
    groups: list[dict[str, Any]] = [{"params": decay_params}]
    if no_decay:
        no_decay_params = [parameter for parameter in model.parameters() if parameter in no_decay]
        groups.append({"params": no_decay_params, "weight_decay": 0.0, "use_adamw": True})
    return _create_optimizer(config, groups)


def _create_optimizer(
    config: OptimizerConfig, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    if config.name == "muon":
        dtype = torch.bfloat16 if has_bf16() else torch.float32
        return Muon(groups, rate, weight_decay=decay, dtype=dtype)
    from timm.optim import create_optimizer_v2  # slow import (about 1 s)

    _check_is_serializable(config.name)
    return create_optimizer_v2(groups, opt=config.name, lr=rate, weight_decay=decay)


def _check_is_serializable(name: str) -> None:
    """Raise `ValueError` if the optimizer has a nonstandard `step` or state.

    The state must consist of tensors and numbers, which a state file can hold. The check runs
    before any training.
    """
    from timm.optim import create_optimizer_v2

    probe = torch.nn.Parameter(torch.ones(2, 2))
    probe.grad = torch.ones(2, 2)
    try:
        optimizer = create_optimizer_v2([{"params": [probe]}], opt=name, lr=1e-3)
        optimizer.step()
        state = optimizer.state_dict()
        json.dumps(state["param_groups"])
        state_values = [value for values in state["state"].values() for value in values.values()]
        is_serializable = all(
            isinstance(value, torch.Tensor | int | float) for value in state_values
        )
    except (RuntimeError, TypeError, AssertionError) as cause:
        raise ValueError(f"the optimizer {name!r} is not supported: {cause}") from cause
    if not is_serializable:
        raise ValueError(
            f"the state of the optimizer {name!r} cannot be saved; choose another optimizer"
        )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> None:
    """Set the learning rate of a step, 1 to `steps`: warm-up times schedule."""
    warmup_factor = min(1.0, step / max(config.warmup_steps, 1))
    schedule_factor = get_lr_factor(config.schedule, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * warmup_factor * schedule_factor
