"""The benchmarks that train models: the options of each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vqvideo.cli.optimizer import FIRST_STAGE, add_optimizer, optimizer_config
from vqvideo.cli.options import add_overwrite, progress_bar, size


def _add_runs(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("--data", required=True, metavar="FOLDER", help="see docs/data.md")
    parser.add_argument("--out", default=out, metavar="FOLDER", help="gets one run per line")
    parser.add_argument("--model", default="image", help="a model's name; see `vqvideo models`")
    parser.add_argument("--steps", type=int, default=1000, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")


def add_beta(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark beta`."""
    _add_runs(parser, "runs/beta")
    parser.set_defaults(run=_beta)


def _beta(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.codebooks import beta_table

    rows = beta_table(**_runs(options))
    if options.json:
        return rows
    return ["  ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]


def add_codebooks(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark codebooks`."""
    _add_runs(parser, "runs/codebooks")
    parser.set_defaults(run=_codebooks)


def _codebooks(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.codebooks import codebook_curves

    return codebook_curves(**_runs(options))


def _runs(options: argparse.Namespace) -> dict[str, Any]:
    names = ("data", "out", "model", "steps", "seeds")
    return {name: getattr(options, name) for name in names}


def add_training(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark training`."""
    parser.add_argument("--data", required=True, metavar="FOLDER", help="see docs/data.md")
    parser.add_argument("--out", default="runs/training", metavar="FOLDER", help="one run per line")
    parser.add_argument("--model", default="video", help="a model's name; see `vqvideo models`")
    parser.add_argument(
        "--budgets",
        type=lambda text: [float(number) for number in text.split(",")],
        default=[75.0, 300.0, 900.0],
        metavar="S,S,...",
        help="seconds of steps (default 75,300,900)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs under each budget")
    add_optimizer(parser, **FIRST_STAGE)
    parser.set_defaults(run=_training)


def _training(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.training import Learner, benchmark_training
    from vqvideo.jobs.benchmark.training_table import draw_training, training_table

    learner = Learner(
        data=options.data,
        out=options.out,
        model=options.model,
        optimizer=optimizer_config(options),
    )
    found = benchmark_training(learner, budgets=options.budgets, seeds=options.seeds)
    picture = draw_training(found, Path(options.out) / "training.png")
    return {**found, "picture": picture} if options.json else [training_table(found), picture]


def add_bits(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark bits`."""
    parser.add_argument("--data", required=True, metavar="FOLDER", help="images; see docs/data.md")
    parser.add_argument("--out", default="runs/bits", metavar="FOLDER", help="one file a run")
    parser.add_argument("--model", default="image-cifar", help="whose networks are taken")
    parser.add_argument("--width", type=int, default=64, help="hidden channels (default 64)")
    parser.add_argument("--size", type=size, default=(32, 32), metavar="HxW", help="of the images")
    parser.add_argument(
        "--steps", type=int, default=3000, help="of each run; a trial's are a third"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method")
    parser.add_argument(
        "--methods",
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        metavar="NAME,NAME,...",
        help="default all: vae, vq-vae-gradient, vq-vae-ema, vq-vae-product, vimco",
    )
    parser.add_argument(
        "--codebook-sizes",
        type=lambda text: tuple(int(number) for number in text.split(",")),
        default=(128, 512),
        metavar="K,K,...",
        help="of the trials (default 128,512)",
    )
    parser.add_argument(
        "--learning-rates",
        type=lambda text: tuple(float(number) for number in text.split(",")),
        default=(3e-3, 1e-2, 3e-2),
        metavar="R,R,...",
        help="of the trials (default 0.003,0.01,0.03)",
    )
    parser.set_defaults(run=_bits)


def _bits(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.bits import Bench, benchmark_bits
    from vqvideo.jobs.benchmark.bits_table import bits_table

    names = ["data", "out", "model", "width", "size", "steps", "batch_size", "seeds"]
    names += ["codebook_sizes", "learning_rates"]
    chosen = {} if options.methods is None else {"methods": options.methods}
    bench = Bench(**{name: getattr(options, name) for name in names}, **chosen)
    found = benchmark_bits(bench, progress_bar("step"))
    return found if options.json else bits_table(found)


def add_bound(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark bound`."""
    parser.add_argument("--out", default="runs/bound", metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=1500, help="of each model")
    parser.add_argument("--seeds", type=int, default=3, help="models")
    add_overwrite(parser)
    parser.set_defaults(run=_bound)


def _bound(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.bound import benchmark_bound

    found = benchmark_bound(
        out=options.out,
        steps=options.steps,
        seeds=options.seeds,
        overwrite=options.overwrite,
        progress=progress_bar("step"),
    )
    if options.json:
        return found
    last = [points[-1] for points in found["curves"]]
    lines = ["  ".join(f"{k}: {v:.3f}" for k, v in each.items()) for each in last]
    return [*lines, Path(options.out) / "bound.png"]
