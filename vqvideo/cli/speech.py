"""Options of the speech commands: convert speakers."""

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
    from vqvideo.recipes.speech.convert_speaker import convert_speaker

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
