"""The options that say how weights move, of every command that trains."""

from __future__ import annotations

import argparse
from typing import Any

FIRST_STAGE: dict[str, Any] = {"name": "nmuon", "learning_rate": 3e-3, "warmup_steps": 20}
SECOND_STAGE: dict[str, Any] = {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 100}
USUAL_RATE = 1e-3  # of AdamW and its kin


def add_optimizer(
    parser: argparse.ArgumentParser, name: str, learning_rate: float, warmup_steps: int
) -> None:
    """--optimizer, --learning-rate and so on.

    Args:
        parser: gets them.
        name: of the optimizer where none is given.
        learning_rate: that goes with it; another optimizer has the usual one.
        warmup_steps: where none are given.
    """
    parser.add_argument(
        "--optimizer",
        default=name,
        metavar="NAME",
        help=f"adamw, nmuon or another of timm's (default: {name})",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"default: {learning_rate:g} for {name}, {USUAL_RATE:g} for others",
    )
    parser.add_argument(
        "--schedule",
        default="linear",
        metavar="NAME",
        help="how the learning rate falls: linear, cosine or another of timm's (default: linear)",
    )
    parser.add_argument(
        "--warmup-steps",
        type=int,
        default=warmup_steps,
        metavar="N",
        help=f"over which the learning rate rises (default: {warmup_steps})",
    )
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument(
        "--weight-average",
        type=float,
        default=0.0,
        metavar="DECAY",
        help="keep a moving average of the weights, as 0.999; default: the weights themselves",
    )
    parser.set_defaults(rates={name: learning_rate})


def optimizer_config(options: argparse.Namespace) -> Any:
    """What they say."""
    from vqvideo.training import OptimizerConfig

    rate = options.learning_rate
    return OptimizerConfig(
        name=options.optimizer,
        learning_rate=options.rates.get(options.optimizer, USUAL_RATE) if rate is None else rate,
        schedule=options.schedule,
        warmup_steps=options.warmup_steps,
        weight_decay=options.weight_decay,
        weight_average=options.weight_average,
    )
