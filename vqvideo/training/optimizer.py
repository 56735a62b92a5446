"""What moves the weights: an optimizer, its learning rate, and which weights are treated apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vqvideo.quantizers import Quantizer
from vqvideo.training.task import OptimizerConfig

LAST = 0.05  # share of the learning rate at the end


def optimizer_of(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer for all parameters of a model.

    Those of a quantizer and of embeddings do not decay, or entries that nothing uses would shrink;
    and an optimizer that is made for matrices (Muon) leaves them, tables of vectors, to AdamW.

    Raises:
        ValueError: an unknown name; the message says where those are that exist.
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
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    from timm.optim import create_optimizer_v2, list_optimizers  # imports for a second

    if config.name not in list_optimizers():
        raise ValueError(
            f"there is no optimizer {config.name!r}; adamw is torch's, and the names of the others "
            f"are in timm.optim.list_optimizers()"
        )
    return create_optimizer_v2(groups, opt=config.name, lr=rate, weight_decay=decay)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> None:
    """That of step 1 to `steps`: up over the warm-up, and down to a twentieth at the end."""
    rise = min(1.0, step / max(config.warmup_steps, 1))
    fall = 1 - (1 - LAST) * (step - 1) / steps
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * rise * fall
