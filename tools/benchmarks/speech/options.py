"""Options of `benchmark.py speech`."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.speech.run import SpeechBenchmarkConfig, benchmark_speech
from benchmarks.speech.table import format_speech_table
from vqvideo.cli.options import (
    add_device_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
)


def add_benchmark_speech_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `benchmark.py speech`."""
    parser.add_argument("--model", required=True, help="a speech model conditioned on the speaker")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="speech of the training speakers"
    )
    parser.add_argument(
        "--unseen", required=True, metavar="FOLDER", help="speech of unseen speakers"
    )
    parser.add_argument(
        "--phone-map", metavar="FILE", help="phones.json; default: that of the model, if any"
    )
    parser.add_argument(
        "--max-utterances",
        type=int,
        metavar="N",
        help="maximum utterances per folder (default: all; 8 for an autoregressive likelihood)",
    )
    parser.add_argument(
        "--num-targets", type=int, default=6, help="number of target speakers (default: 6)"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed of the decoder")
    parser.add_argument(
        "--out",
        default="outputs/speech",
        metavar="FOLDER",
        help="output folder (default: outputs/speech)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_benchmark_speech)


def _run_benchmark_speech(options: argparse.Namespace) -> Any:
    names = ("model", "data", "unseen", "max_utterances", "num_targets", "seed", "device")
    files, results = benchmark_speech(
        SpeechBenchmarkConfig(
            phone_map=options.phone_map, **{name: getattr(options, name) for name in names}
        ),
        out=options.out,
        overwrite=options.overwrite,
        progress=create_progress_bar("utterance"),
    )
    return (
        {"files": files, **results} if options.json else [format_speech_table(results), "", *files]
    )
