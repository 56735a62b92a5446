"""The benchmarks of time and memory: the options of each."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import progress_bar


def add_quantizer(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark quantizer`."""
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


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark sampling`."""
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


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark decoding`."""
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.set_defaults(run=_decoding)


def _decoding(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.decoding import benchmark_decoding, decoding_table

    found = benchmark_decoding(
        rounds=options.rounds, num_threads=options.threads, progress=progress_bar("round")
    )
    return found if options.json else decoding_table(found)


def add_playing(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark playing`."""
    parser.add_argument("--model", default="maze", help="a shipped model or the folder of a run")
    parser.add_argument("--num-frames", type=int, default=100, help="code frames that are timed")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_playing)


def _playing(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.playing import benchmark_playing, playing_table

    found = benchmark_playing(
        model=options.model,
        num_frames=options.num_frames,
        num_threads=options.threads,
        seed=options.seed,
        progress=progress_bar("frame"),
    )
    return found if options.json else playing_table(found)


def add_streaming(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark streaming`."""
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


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark reading`."""
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
