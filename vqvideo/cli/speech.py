"""Options of the speech commands: convert speakers, benchmark a model."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import (
    add_device_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
)


def add_convert_speaker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo convert-speaker`."""
    parser.add_argument("file", metavar="IN", help="an audio file, or a video with audio")
    parser.add_argument("out", metavar="OUT", help="output file, .wav or .flac")
    parser.add_argument(
        "--speaker",
        required=True,
        metavar="ID",
        help="target speaker; an unknown one lists the known speakers",
    )
    parser.add_argument("--model", default="audio-25hz", help="a shipped model or a run folder")
    parser.add_argument(
        "--decoder-temperature",
        type=float,
        metavar="T",
        help="temperature of an autoregressive decoder (default: 1)",
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed of the decoder")
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_convert_speaker)


def _run_convert_speaker(options: argparse.Namespace) -> Any:
    from vqvideo.commands.speech.convert_speaker import convert_speaker

    files, record = convert_speaker(
        options.file,
        speaker=options.speaker,
        out=options.out,
        model=options.model,
        decoder_temperature=options.decoder_temperature,
        seed=options.seed,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("code"),
    )
    return {"files": files, **record} if options.json else files


def add_benchmark_speech_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo benchmark speech`."""
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
    from vqvideo.commands.benchmark.speech.run import SpeechBenchmarkConfig, benchmark_speech
    from vqvideo.commands.benchmark.speech.table import format_speech_table

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
