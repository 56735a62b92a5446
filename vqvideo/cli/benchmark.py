"""`vqvideo benchmark`: the options of each benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vqvideo.cli.maze import add_benchmark_maze
from vqvideo.cli.optimizer import FIRST_STAGE, add_optimizer, optimizer_config
from vqvideo.cli.options import AddOptions, add_overwrite, progress_bar, size
from vqvideo.cli.speech import add_benchmark_speech


def _add_quantizer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes",
        type=lambda text: text.split(","),
        metavar="S1,S2,...",
        help="default all, S1 to S6; S6 needs 8 GB of memory",
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.set_defaults(run=_quantizer)


def _quantizer(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.quantizer import benchmark_quantizer
    from vqvideo.jobs.benchmark.table import table

    rows = benchmark_quantizer(
        sizes=options.sizes,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=progress_bar("part"),
    )
    return rows if options.json else table(rows)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--priors",
        type=lambda text: text.split(","),
        metavar="NAME,NAME,...",
        help="default all: wavenet, pixelcnn, masked3d, transformer",
    )
    parser.add_argument(
        "--batches",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[1, 16],
        metavar="N,N,...",
        help="samples at once (default 1,16)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.set_defaults(run=_sampling)


def _sampling(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.sampling import benchmark_sampling, sampling_table

    rows = benchmark_sampling(
        priors=options.priors,
        batches=options.batches,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=progress_bar("part"),
    )
    return rows if options.json else sampling_table(rows)


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.set_defaults(run=_decoding)


def _decoding(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.decoding import benchmark_decoding, decoding_table

    found = benchmark_decoding(
        rounds=options.rounds, num_threads=options.threads, progress=progress_bar("round")
    )
    return found if options.json else decoding_table(found)


def _add_streaming(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[64, 10_000],
        metavar="N,N,...",
        help="frames of videos that are encoded as they come (default 64,10000)",
    )
    parser.add_argument("--side", type=int, default=128, help="height and width of their frames")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.set_defaults(run=_streaming)


def _streaming(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.streaming import benchmark_streaming, streaming_table

    found = benchmark_streaming(
        lengths=options.lengths,
        side=options.side,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=progress_bar("part"),
    )
    return found if options.json else streaming_table(found)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", help="with video files")
    parser.add_argument("--num-files", type=int, default=8, help="of each folder, at most")
    parser.add_argument("--num-frames", type=int, default=16, help="of a clip")
    parser.add_argument("--side", type=int, default=64, help="height and width of a clip")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    parser.set_defaults(run=_reading)


def _reading(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.reading import benchmark_reading, reading_table

    rows = benchmark_reading(
        options.folders,
        num_files=options.num_files,
        num_frames=options.num_frames,
        side=options.side,
        rounds=options.rounds,
        progress=progress_bar("file"),
    )
    return rows if options.json else reading_table(rows)


def _add_runs(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("--data", required=True, metavar="FOLDER", help="see docs/data.md")
    parser.add_argument("--out", default=out, metavar="FOLDER", help="gets one run per line")
    parser.add_argument("--model", default="image", help="a model's name; see `vqvideo models`")
    parser.add_argument("--steps", type=int, default=1000, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")


def _add_beta(parser: argparse.ArgumentParser) -> None:
    _add_runs(parser, "runs/beta")
    parser.set_defaults(run=_beta)


def _beta(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.codebooks import beta_table

    rows = beta_table(**_runs(options))
    if options.json:
        return rows
    return ["  ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]


def _add_codebooks(parser: argparse.ArgumentParser) -> None:
    _add_runs(parser, "runs/codebooks")
    parser.set_defaults(run=_codebooks)


def _codebooks(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.codebooks import codebook_curves

    return codebook_curves(**_runs(options))


def _runs(options: argparse.Namespace) -> dict[str, Any]:
    names = ("data", "out", "model", "steps", "seeds")
    return {name: getattr(options, name) for name in names}


def _add_training(parser: argparse.ArgumentParser) -> None:
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


def _add_bits(parser: argparse.ArgumentParser) -> None:
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


def _add_bound(parser: argparse.ArgumentParser) -> None:
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


BENCHMARKS: dict[str, tuple[str, AddOptions]] = {
    "quantizer": ("Compare our quantizer with a peer, in time and memory.", _add_quantizer),
    "sampling": ("Time how priors draw codes, beside recomputing everything.", _add_sampling),
    "decoding": ("Time how codes of speech become sound, by a WaveNet and not.", _add_decoding),
    "speech": (
        "Measure a model of speech: voices, and what they say.",
        add_benchmark_speech,
    ),
    "maze": ("Measure a model of walks: does it imagine what it is told?", add_benchmark_maze),
    "streaming": (
        "Encode long video: memory, and time beside one call.",
        _add_streaming,
    ),
    "reading": ("Read clips from random places, beside decord and a plain loop.", _add_reading),
    "training": ("Train under budgets of seconds: quality over time.", _add_training),
    "bits": ("Bits per dimension beside a VAE and VIMCO (section 4.1).", _add_bits),
    "bound": ("How tight the bound of section 3.2 is, on a toy model.", _add_bound),
    "beta": ("Train with five weights of the commitment loss (section 3.2).", _add_beta),
    "codebooks": ("Train with a codebook by average and with one by gradient.", _add_codebooks),
}
