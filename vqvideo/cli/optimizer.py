"""Optimizer options of the commands that train."""

from __future__ import annotations

import argparse
from typing import Any

VQVAE_OPTIMIZER: dict[str, Any] = {"name": "nmuon", "learning_rate": 3e-3, "warmup_steps": 20}
PRIOR_OPTIMIZER: dict[str, Any] = {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 100}
DEFAULT_LEARNING_RATE = 1e-3  # for AdamW and similar optimizers


def add_optimizer_options(
    parser: argparse.ArgumentParser, name: str, learning_rate: float, warmup_steps: int
) -> None:
    """Add --optimizer, --learning-rate and the other optimizer options.

    Args:
        parser: the parser of the command.
        name: default optimizer.
        learning_rate: default learning rate of that optimizer; others use
            `DEFAULT_LEARNING_RATE`.
        warmup_steps: default number of warmup steps.
    """
    parser.add_argument(
        "--optimizer",
        default=name,
        metavar="NAME",
        help=f"optimizer: adamw, nmuon or any other of timm (default: {name})",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"peak learning rate (default: {learning_rate:g} for {name}, "
        f"{DEFAULT_LEARNING_RATE:g} for others)",
    )
    parser.add_argument(
        "--schedule",
        default="linear",
        metavar="NAME",
        help="learning rate schedule: linear, cosine or any other of timm (default: linear)",
    )
    parser.add_argument(
        "--warmup-steps",
        type=int,
        default=warmup_steps,
        metavar="N",
        help=f"steps of linear learning rate warmup (default: {warmup_steps})",
    )
    parser.add_argument(
        "--weight-decay", type=float, default=0.01, help="weight decay (default: 0.01)"
    )
    parser.add_argument(
        "--model-ema-decay",
        type=float,
        default=0.0,
        metavar="DECAY",
        help="decay of an exponential moving average of the weights, for example 0.999 (default: "
        "0, no average)",
    )
    parser.set_defaults(rates={name: learning_rate})


def build_optimizer_config(options: argparse.Namespace) -> Any:
    """Return the optimizer config of parsed options."""
    from vqvideo.training import OptimizerConfig

    rate = options.learning_rate
    return OptimizerConfig(
        name=options.optimizer,
        learning_rate=options.rates.get(options.optimizer, DEFAULT_LEARNING_RATE)
        if rate is None
        else rate,
        schedule=options.schedule,
        warmup_steps=options.warmup_steps,
        weight_decay=options.weight_decay,
        model_ema_decay=options.model_ema_decay,
    )
