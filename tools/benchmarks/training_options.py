"""The benchmarks that train models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.optimizer import VQVAE_OPTIMIZER, build_optimizer_config, optimizer_options
from vqvideo.cli.options import (
    AddOption,
    Command,
    create_progress_bar,
    get_arguments,
    option,
    parse_list,
    parse_size,
)


def _run_options(out: str) -> list[AddOption]:
    """Return the options that benchmarks of several runs share."""
    return [
        option("--data FOLDER", "training data; see docs/data.md", required=True),
        shared.out_option(out, "folder for the runs"),
        option("--model", "model name; see `vqvideo models`", default="image"),
        option("--steps", "training steps per run", default=1000),
        option("--seeds", "runs per setting", default=3),
    ]


def _run_beta(options: argparse.Namespace) -> Any:
    from benchmarks.codebooks import benchmark_beta

    rows = benchmark_beta(**get_arguments(options))
    if options.json:
        return rows
    return ["  ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]


BETA = Command(
    "Train with five weights of the commitment loss (section 3.2).",
    _run_beta,
    _run_options("runs/beta"),
)


def _run_codebooks(options: argparse.Namespace) -> Any:
    from benchmarks.codebooks import benchmark_codebooks

    return benchmark_codebooks(**get_arguments(options))


CODEBOOKS = Command(
    "Train with an EMA codebook and with a gradient codebook.",
    _run_codebooks,
    _run_options("runs/codebooks"),
)


def _run_training(options: argparse.Namespace) -> Any:
    from benchmarks.training import TrainingBenchmarkConfig, benchmark_training
    from benchmarks.training_table import format_training_table, plot_training

    benchmark_config = TrainingBenchmarkConfig(
        data=options.data,
        out=options.out,
        model=options.model,
        optimizer=build_optimizer_config(options),
    )
    results = benchmark_training(benchmark_config, budgets=options.budgets, seeds=options.seeds)
    plot = plot_training(results, Path(options.out) / "training.png")
    return {**results, "picture": plot} if options.json else [format_training_table(results), plot]


TRAINING = Command(
    "Train under time budgets: quality over time.",
    _run_training,
    [
        option("--data FOLDER", "training data; see docs/data.md", required=True),
        shared.out_option("runs/training", "folder for the runs"),
        option("--model", "model name; see `vqvideo models`", default="video"),
        option(
            "--budgets S,S,...",
            "training budgets in seconds (default: 75,300,900)",
            parse_list(float),
            default=[75.0, 300.0, 900.0],
        ),
        option("--seeds", "runs per budget", default=3),
        *optimizer_options(**VQVAE_OPTIMIZER),
    ],
)


def _run_bits(options: argparse.Namespace) -> Any:
    from benchmarks.bits import BitsBenchmarkConfig, benchmark_bits
    from benchmarks.bits_table import format_bits_table

    arguments = get_arguments(options)
    if options.methods is None:  # all
        del arguments["methods"]
    results = benchmark_bits(BitsBenchmarkConfig(**arguments), create_progress_bar("step"))
    return results if options.json else format_bits_table(results)


BITS = Command(
    "Compare bits per dimension with a VAE and VIMCO (section 4.1).",
    _run_bits,
    [
        option("--data FOLDER", "images; see docs/data.md", required=True),
        shared.out_option("runs/bits", "folder with one file per run"),
        option("--model", "model whose encoder and decoder are used", default="image-cifar"),
        option("--width", "hidden channels (default: 64)", default=64),
        option("--size HxW", "image size", parse_size, default=(32, 32)),
        option("--steps", "training steps per run, a third per trial", default=3000),
        option("--batch-size", "images per step", default=32),
        option("--seeds", "runs per method", default=3),
        option(
            "--methods NAME,NAME,...",
            "default: all, vae,vq-vae-gradient,vq-vae-ema,vq-vae-product,vimco",
            parse_list(),
        ),
        option(
            "--codebook-sizes K,K,...",
            "codebook sizes of the trials (default: 128,512)",
            parse_list(int),
            default=[128, 512],
        ),
        option(
            "--learning-rates R,R,...",
            "learning rates of the trials (default: 0.003,0.01,0.03)",
            parse_list(float),
            default=[3e-3, 1e-2, 3e-2],
        ),
    ],
)


def _run_bound(options: argparse.Namespace) -> Any:
    from benchmarks.bound import benchmark_bound

    results = benchmark_bound(**get_arguments(options), progress=create_progress_bar("step"))
    if options.json:
        return results
    last = [points[-1] for points in results["curves"]]
    lines = ["  ".join(f"{k}: {v:.3f}" for k, v in point.items()) for point in last]
    return [*lines, Path(options.out) / "bound.png"]


BOUND = Command(
    "Measure the tightness of the bound of section 3.2 on a toy model.",
    _run_bound,
    [
        shared.out_option("runs/bound"),
        option("--steps", "training steps per model", default=1500),
        option("--seeds", "number of models", default=3),
        shared.OVERWRITE,
    ],
)
