"""The command that gives what is said another voice."""

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
