"""The benchmarks of time and memory."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import (
    AddOption,
    Command,
    create_progress_bar,
    get_arguments,
    option,
    parse_list,
)


def _rounds(default: int) -> AddOption:
    return option("--rounds", "measurements of each candidate", int, default=default)


def _threads(default: int) -> AddOption:
    help_ = "number of torch threads"
    return option("--threads N", help_, int, default=default, dest="num_threads")


def _run_quantizer(options: argparse.Namespace) -> Any:
    from benchmarks.quantizer import benchmark_quantizer
    from benchmarks.table import format_quantizer_table

    rows = benchmark_quantizer(**get_arguments(options), progress=create_progress_bar("part"))
    return rows if options.json else format_quantizer_table(rows)


QUANTIZER = Command(
    "Compare time and memory of the quantizer with vector-quantize-pytorch.",
    _run_quantizer,
    [
        option(
            "--sizes S1,S2,...",
            "sizes to measure (default: all, S1 to S6; S6 needs 8 GB of memory)",
            parse_list(),
        ),
        _rounds(7),
        _threads(2),
    ],
)


def _run_sampling(options: argparse.Namespace) -> Any:
    from benchmarks.sampling import benchmark_sampling, format_sampling_table

    rows = benchmark_sampling(**get_arguments(options), progress=create_progress_bar("part"))
    return rows if options.json else format_sampling_table(rows)


SAMPLING = Command(
    "Time sampling from priors, against full recomputation.",
    _run_sampling,
    [
        option(
            "--priors NAME,NAME,...",
            "priors to time (default: all, wavenet,pixelcnn,masked3d,transformer)",
            parse_list(),
        ),
        option(
            "--batches N,N,...", "batch sizes (default: 1,16)", parse_list(int), default=[1, 16]
        ),
        _rounds(5),
        _threads(2),
    ],
)


def _run_decoding(options: argparse.Namespace) -> Any:
    from benchmarks.decoding import benchmark_decoding, format_decoding_table

    results = benchmark_decoding(**get_arguments(options), progress=create_progress_bar("round"))
    return results if options.json else format_decoding_table(results)


DECODING = Command(
    "Time decoding speech, with a WaveNet and without.", _run_decoding, [_rounds(5), _threads(1)]
)


def _run_playing(options: argparse.Namespace) -> Any:
    from benchmarks.playing import benchmark_playing, format_playing_table

    results = benchmark_playing(**get_arguments(options), progress=create_progress_bar("frame"))
    return results if options.json else format_playing_table(results)


PLAYING = Command(
    "Time generating the next frame in interactive play.",
    _run_playing,
    [
        shared.model_option("maze"),
        option("--num-frames", "code frames to time", default=100),
        _threads(2),
        shared.SEED,
    ],
)


def _run_streaming(options: argparse.Namespace) -> Any:
    from benchmarks.streaming import benchmark_streaming, format_streaming_table

    results = benchmark_streaming(**get_arguments(options), progress=create_progress_bar("part"))
    return results if options.json else format_streaming_table(results)


STREAMING = Command(
    "Measure memory and time of encoding long video, against a single call.",
    _run_streaming,
    [
        option(
            "--lengths N,N,...",
            "numbers of frames of the streamed videos (default: 64,10000)",
            parse_list(int),
            default=[64, 10_000],
        ),
        option("--side", "height and width of the frames", default=128),
        _rounds(5),
        _threads(2),
    ],
)


def _run_reading(options: argparse.Namespace) -> Any:
    from benchmarks.reading import benchmark_reading, format_reading_table

    arguments = get_arguments(options, skip=("folders",))
    progress = create_progress_bar("file")
    rows = benchmark_reading(options.folders, **arguments, progress=progress)
    return rows if options.json else format_reading_table(rows)


READING = Command(
    "Time random access to clips, against decord and a plain loop.",
    _run_reading,
    [
        option("folders", "folders of video files", nargs="+"),
        option("--num-files", "maximum files per folder", default=8),
        option("--num-frames", "frames per clip", default=16),
        option("--side", "height and width of the clips", default=64),
        _rounds(3),
    ],
)
