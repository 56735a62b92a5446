"""Options of the benchmarks of time and memory."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import create_progress_bar, parse_seed


def add_quantizer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py quantizer`."""
    parser.add_argument(
        "--sizes",
        type=lambda text: text.split(","),
        metavar="S1,S2,...",
        help="sizes to measure (default: all, S1 to S6; S6 needs 8 GB of memory)",
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each candidate")
    parser.add_argument("--threads", type=int, default=2, help="number of torch threads")
    parser.set_defaults(run=_run_quantizer)


def _run_quantizer(options: argparse.Namespace) -> Any:
    from benchmarks.quantizer import benchmark_quantizer
    from benchmarks.table import format_quantizer_table

    rows = benchmark_quantizer(
        sizes=options.sizes,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=create_progress_bar("part"),
    )
    return rows if options.json else format_quantizer_table(rows)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py sampling`."""
    parser.add_argument(
        "--priors",
        type=lambda text: text.split(","),
        metavar="NAME,NAME,...",
        help="priors to time (default: all, wavenet,pixelcnn,masked3d,transformer)",
    )
    parser.add_argument(
        "--batches",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 16],
        metavar="N,N,...",
        help="batch sizes (default: 1,16)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each candidate")
    parser.add_argument("--threads", type=int, default=2, help="number of torch threads")
    parser.set_defaults(run=_run_sampling)


def _run_sampling(options: argparse.Namespace) -> Any:
    from benchmarks.sampling import benchmark_sampling, format_sampling_table

    rows = benchmark_sampling(
        priors=options.priors,
        batches=options.batches,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=create_progress_bar("part"),
    )
    return rows if options.json else format_sampling_table(rows)


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py decoding`."""
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each candidate")
    parser.add_argument("--threads", type=int, default=1, help="number of torch threads")
    parser.set_defaults(run=_run_decoding)


def _run_decoding(options: argparse.Namespace) -> Any:
    from benchmarks.decoding import benchmark_decoding, format_decoding_table

    results = benchmark_decoding(
        rounds=options.rounds, num_threads=options.threads, progress=create_progress_bar("round")
    )
    return results if options.json else format_decoding_table(results)


def add_playing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py playing`."""
    parser.add_argument("--model", default="maze", help="a shipped model or a run folder")
    parser.add_argument("--num-frames", type=int, default=100, help="code frames to time")
    parser.add_argument("--threads", type=int, default=2, help="number of torch threads")
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed")
    parser.set_defaults(run=_run_playing)


def _run_playing(options: argparse.Namespace) -> Any:
    from benchmarks.playing import benchmark_playing, format_playing_table

    results = benchmark_playing(
        model=options.model,
        num_frames=options.num_frames,
        num_threads=options.threads,
        seed=options.seed,
        progress=create_progress_bar("frame"),
    )
    return results if options.json else format_playing_table(results)


def add_streaming_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py streaming`."""
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[64, 10_000],
        metavar="N,N,...",
        help="numbers of frames of the streamed videos (default: 64,10000)",
    )
    parser.add_argument("--side", type=int, default=128, help="height and width of the frames")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each candidate")
    parser.add_argument("--threads", type=int, default=2, help="number of torch threads")
    parser.set_defaults(run=_run_streaming)


def _run_streaming(options: argparse.Namespace) -> Any:
    from benchmarks.streaming import benchmark_streaming, format_streaming_table

    results = benchmark_streaming(
        lengths=options.lengths,
        side=options.side,
        rounds=options.rounds,
        num_threads=options.threads,
        progress=create_progress_bar("part"),
    )
    return results if options.json else format_streaming_table(results)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py reading`."""
    parser.add_argument("folders", nargs="+", help="folders of video files")
    parser.add_argument("--num-files", type=int, default=8, help="maximum files per folder")
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip")
    parser.add_argument("--side", type=int, default=64, help="height and width of the clips")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each candidate")
    parser.set_defaults(run=_run_reading)


def _run_reading(options: argparse.Namespace) -> Any:
    from benchmarks.reading import benchmark_reading, format_reading_table

    rows = benchmark_reading(
        options.folders,
        num_files=options.num_files,
        num_frames=options.num_frames,
        side=options.side,
        rounds=options.rounds,
        progress=create_progress_bar("file"),
    )
    return rows if options.json else format_reading_table(rows)
