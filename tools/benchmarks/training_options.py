"""Options of the benchmarks that train models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vqvideo.cli.optimizer import VQVAE_OPTIMIZER, add_optimizer_options, build_optimizer_config
from vqvideo.cli.options import add_overwrite_option, create_progress_bar, parse_size


def _add_run_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options that benchmarks of several runs share."""
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="training data; see docs/data.md"
    )
    parser.add_argument(
        "--out", default=out, metavar="FOLDER", help=f"folder for the runs (default: {out})"
    )
    parser.add_argument("--model", default="image", help="model name; see `vqvideo models`")
    parser.add_argument("--steps", type=int, default=1000, help="training steps per run")
    parser.add_argument("--seeds", type=int, default=3, help="runs per setting")


def add_beta_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py beta`."""
    _add_run_options(parser, "runs/beta")
    parser.set_defaults(run=_run_beta)


def _run_beta(options: argparse.Namespace) -> Any:
    from benchmarks.codebooks import benchmark_beta

    rows = benchmark_beta(**_get_run_options(options))
    if options.json:
        return rows
    return ["  ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]


def add_codebooks_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py codebooks`."""
    _add_run_options(parser, "runs/codebooks")
    parser.set_defaults(run=_run_codebooks)


def _run_codebooks(options: argparse.Namespace) -> Any:
    from benchmarks.codebooks import benchmark_codebooks

    return benchmark_codebooks(**_get_run_options(options))


def _get_run_options(options: argparse.Namespace) -> dict[str, Any]:
    names = ("data", "out", "model", "steps", "seeds")
    return {name: getattr(options, name) for name in names}


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py training`."""
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="training data; see docs/data.md"
    )
    parser.add_argument(
        "--out", default="runs/training", metavar="FOLDER", help="folder for the runs"
    )
    parser.add_argument("--model", default="video", help="model name; see `vqvideo models`")
    parser.add_argument(
        "--budgets",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[75.0, 300.0, 900.0],
        metavar="S,S,...",
        help="training budgets in seconds (default: 75,300,900)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs per budget")
    add_optimizer_options(parser, **VQVAE_OPTIMIZER)
    parser.set_defaults(run=_run_training)


def _run_training(options: argparse.Namespace) -> Any:
    from benchmarks.training import TrainingBenchmarkConfig, benchmark_training
    from benchmarks.training_table import (
        format_training_table,
        plot_training,
    )

    benchmark_config = TrainingBenchmarkConfig(
        data=options.data,
        out=options.out,
        model=options.model,
        optimizer=build_optimizer_config(options),
    )
    results = benchmark_training(benchmark_config, budgets=options.budgets, seeds=options.seeds)
    plot = plot_training(results, Path(options.out) / "training.png")
    return {**results, "picture": plot} if options.json else [format_training_table(results), plot]


def add_bits_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py bits`."""
    parser.add_argument("--data", required=True, metavar="FOLDER", help="images; see docs/data.md")
    parser.add_argument(
        "--out", default="runs/bits", metavar="FOLDER", help="folder with one file per run"
    )
    parser.add_argument(
        "--model", default="image-cifar", help="model whose encoder and decoder are used"
    )
    parser.add_argument("--width", type=int, default=64, help="hidden channels (default: 64)")
    parser.add_argument(
        "--size", type=parse_size, default=(32, 32), metavar="HxW", help="image size"
    )
    parser.add_argument(
        "--steps", type=int, default=3000, help="training steps per run; a third of it per trial"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images per step")
    parser.add_argument("--seeds", type=int, default=3, help="runs per method")
    parser.add_argument(
        "--methods",
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        metavar="NAME,NAME,...",
        help="default: all, vae,vq-vae-gradient,vq-vae-ema,vq-vae-product,vimco",
    )
    parser.add_argument(
        "--codebook-sizes",
        type=lambda text: tuple(int(part) for part in text.split(",")),
        default=(128, 512),
        metavar="K,K,...",
        help="codebook sizes of the trials (default: 128,512)",
    )
    parser.add_argument(
        "--learning-rates",
        type=lambda text: tuple(float(part) for part in text.split(",")),
        default=(3e-3, 1e-2, 3e-2),
        metavar="R,R,...",
        help="learning rates of the trials (default: 0.003,0.01,0.03)",
    )
    parser.set_defaults(run=_run_bits)


def _run_bits(options: argparse.Namespace) -> Any:
    from benchmarks.bits import BitsBenchmarkConfig, benchmark_bits
    from benchmarks.bits_table import format_bits_table

    names = ["data", "out", "model", "width", "size", "steps", "batch_size", "seeds"]
    names += ["codebook_sizes", "learning_rates"]
    method_options = {} if options.methods is None else {"methods": options.methods}
    benchmark_config = BitsBenchmarkConfig(
        **{name: getattr(options, name) for name in names}, **method_options
    )
    results = benchmark_bits(benchmark_config, create_progress_bar("step"))
    return results if options.json else format_bits_table(results)


def add_bound_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py bound`."""
    parser.add_argument("--out", default="runs/bound", metavar="FOLDER", help="output folder")
    parser.add_argument("--steps", type=int, default=1500, help="training steps per model")
    parser.add_argument("--seeds", type=int, default=3, help="number of models")
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_bound)


def _run_bound(options: argparse.Namespace) -> Any:
    from benchmarks.bound import benchmark_bound

    results = benchmark_bound(
        out=options.out,
        steps=options.steps,
        seeds=options.seeds,
        overwrite=options.overwrite,
        progress=create_progress_bar("step"),
    )
    if options.json:
        return results
    last = [points[-1] for points in results["curves"]]
    lines = ["  ".join(f"{k}: {v:.3f}" for k, v in point.items()) for point in last]
    return [*lines, Path(options.out) / "bound.png"]
