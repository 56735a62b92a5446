"""The two commands that make code files and read them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vqvideo.cli.options import add_device, add_max_corrupt, add_overwrite, progress_bar, size


def add_encode(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo encode`."""
    parser.add_argument("folder", help="media files, with or without metadata.jsonl")
    parser.add_argument("out", help="a folder for the code files; a stopped run goes on there")
    parser.add_argument("--model", default="video", help="a shipped model or the folder of a run")
    parser.add_argument(
        "--clip-step",
        type=int,
        metavar="FRAMES",
        help="windows of the model's shape, so far apart; default: each file as one clip",
    )
    parser.add_argument("--size", type=size, metavar="HxW", help="default: the model's own")
    parser.add_argument("--fit", choices=("crop", "pad", "refuse"), default="crop")
    parser.add_argument("--fps", type=float, help="of the clips; default: that of each file")
    parser.add_argument(
        "--compress", action="store_true", help="under the model's prior: smaller, not to train on"
    )
    parser.add_argument(
        "--num-processes", type=int, default=1, help="code files worked on at once (default: 1)"
    )
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="of this machine, or of all machines of a Ray cluster (default: processes)",
    )
    add_max_corrupt(parser)
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.encode import EncodeOptions, encode

    files, figures = encode(
        options.folder,
        options.out,
        model=options.model,
        options=EncodeOptions(
            clip_step=options.clip_step,
            size=options.size,
            fit=options.fit,
            fps=options.fps,
            compress=options.compress,
            num_processes=options.num_processes,
            engine=options.engine,
            max_corrupt=options.max_corrupt,
            device=options.device,
            overwrite=options.overwrite,
        ),
        progress=progress_bar("clip"),
        warn=lambda sentence: print(sentence, file=sys.stderr),
    )
    return {"files": files, **figures} if options.json else figures


def add_decode(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo decode`."""
    parser.add_argument("codes", help="a folder that `vqvideo encode` made, or one code file")
    parser.add_argument("out", help="a folder; files that are there already stay")
    parser.add_argument("--model", default="video", help="the one that encoded")
    parser.add_argument(
        "--suffix", help=".mp4, .mkv or .apng (without loss), .webp, .gif; .wav, .flac; .png"
    )
    parser.add_argument("--num-processes", type=int, default=1)
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_decode)


def _decode(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.decode import decode

    return decode(
        options.codes,
        options.out,
        model=options.model,
        suffix=options.suffix,
        num_processes=options.num_processes,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("clip"),
    )
