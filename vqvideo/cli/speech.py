"""The commands about voices: give one another, measure a model of them."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli.options import add_device, add_overwrite, progress_bar


def add_convert_speaker(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo convert-speaker`."""
    parser.add_argument("file", metavar="IN", help="a sound, or a video with sound")
    parser.add_argument("out", metavar="OUT", help=".wav or .flac")
    parser.add_argument(
        "--speaker", required=True, metavar="ID", help="whose voice; a wrong one lists them all"
    )
    parser.add_argument(
        "--model", default="audio-25hz", help="a shipped model or the folder of a run"
    )
    parser.add_argument(
        "--decoder-temperature", type=float, metavar="T", help="of one that draws (default 1)"
    )
    parser.add_argument("--seed", type=int, default=0)
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_convert_speaker)


def _convert_speaker(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.speech.convert_speaker import convert_speaker

    files, record = convert_speaker(
        options.file,
        speaker=options.speaker,
        out=options.out,
        model=options.model,
        decoder_temperature=options.decoder_temperature,
        seed=options.seed,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("code"),
    )
    return {"files": files, **record} if options.json else files


def add_benchmark_speech(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo benchmark speech`."""
    parser.add_argument("--model", required=True, help="of speech, told who speaks")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="speakers that it was trained on"
    )
    parser.add_argument("--unseen", required=True, metavar="FOLDER", help="other speakers")
    parser.add_argument("--map", metavar="FILE", help="phones.json; default: the model's, if any")
    parser.add_argument(
        "--max-utterances",
        type=int,
        metavar="N",
        help="measured of each folder (default all; 8 where the likelihood is autoregressive)",
    )
    parser.add_argument(
        "--num-targets", type=int, default=6, help="voices to convert to (default 6)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of a decoder that draws")
    parser.add_argument("--out", default="outputs/speech", metavar="FOLDER")
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_benchmark_speech)


def _benchmark_speech(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.benchmark.speech.run import SpeechBench, benchmark_speech
    from vqvideo.jobs.benchmark.speech.table import speech_table

    names = ("model", "data", "unseen", "max_utterances", "num_targets", "seed", "device")
    files, found = benchmark_speech(
        SpeechBench(phone_map=options.map, **{name: getattr(options, name) for name in names}),
        out=options.out,
        overwrite=options.overwrite,
        progress=progress_bar("utterance"),
    )
    return {"files": files, **found} if options.json else [speech_table(found), "", *files]
