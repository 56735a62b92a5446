"""Optimizer options of the commands that train."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import AddOption, option

VQVAE_OPTIMIZER: dict[str, Any] = {"name": "muon", "learning_rate": 3e-3, "warmup_steps": 20}
PRIOR_OPTIMIZER: dict[str, Any] = {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 100}
DEFAULT_LEARNING_RATE = 1e-3  # for AdamW and similar optimizers
OPTIMIZER_FIELDS = ("schedule", "warmup_steps", "weight_decay", "model_ema_decay")
OPTIMIZER_OPTIONS = (*OPTIMIZER_FIELDS, "optimizer", "learning_rate", "rates")


def optimizer_options(name: str, learning_rate: float, warmup_steps: int) -> list[AddOption]:
    """Return --optimizer, --learning-rate and the other optimizer options.

    Args:
        name: default optimizer.
        learning_rate: default learning rate of that optimizer; others use
            `DEFAULT_LEARNING_RATE`.
        warmup_steps: default number of warmup steps.
    """
    return [
        option(
            "--optimizer NAME",
            f"optimizer: adamw, muon or any other of timm (default: {name})",
            default=name,
        ),
        option(
            "--learning-rate",
            f"peak learning rate (default: {learning_rate:g} for {name}, "
            f"{DEFAULT_LEARNING_RATE:g} for others)",
            float,
        ),
        option(
            "--schedule NAME",
            "learning rate schedule: linear, cosine or any other of timm (default: linear)",
            default="linear",
        ),
        option(
            "--warmup-steps N",
            f"steps of linear learning rate warmup (default: {warmup_steps})",
            int,
            default=warmup_steps,
        ),
        option("--weight-decay", "weight decay (default: 0.01)", default=0.01),
        option(
            "--model-ema-decay DECAY",
            "decay of an exponential moving average of the weights, for example 0.999 (default: "
            "0, no average)",
            default=0.0,
        ),
        lambda parser: parser.set_defaults(rates={name: learning_rate}),
    ]


def build_optimizer_config(options: argparse.Namespace) -> Any:
    """Return the optimizer config of parsed options."""
    from vqvideo.training import OptimizerConfig

    rate = options.learning_rate
    if rate is None:
        rate = options.rates.get(options.optimizer, DEFAULT_LEARNING_RATE)
    fields = {name: getattr(options, name) for name in OPTIMIZER_FIELDS}
    return OptimizerConfig(name=options.optimizer, learning_rate=rate, **fields)
