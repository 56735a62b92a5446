"""Options of the commands that write and read code files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vqvideo.cli.options import (
    add_device_option,
    add_max_corrupt_option,
    add_overwrite_option,
    create_progress_bar,
    parse_size,
)


def add_encode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo encode`."""
    parser.add_argument("folder", help="folder of media files, with or without metadata.jsonl")
    parser.add_argument("out", help="folder for the code files; an interrupted run resumes there")
    parser.add_argument("--model", default="video", help="a shipped model or a run folder")
    parser.add_argument(
        "--clip-stride",
        type=int,
        metavar="FRAMES",
        help="encode windows of the model's length with starts this far apart; default: encode "
        "each file as one clip",
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="frame size; default: that of the model"
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "pad", "refuse"),
        default="crop",
        help="how to fit frames of another aspect ratio (default: crop)",
    )
    parser.add_argument(
        "--fps", type=float, help="frame rate of the clips; default: that of each file"
    )
    parser.add_argument(
        "--compress",
        action="store_true",
        help="compress codes under the model's prior; such files cannot be used for training",
    )
    parser.add_argument(
        "--num-processes", type=int, default=1, help="code files encoded in parallel (default: 1)"
    )
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="use processes on this machine, or workers of a Ray cluster (default: processes)",
    )
    add_max_corrupt_option(parser)
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_encode)


def _run_encode(options: argparse.Namespace) -> Any:
    from vqvideo.commands.encode import encode
    from vqvideo.commands.encode_options import EncodeOptions

    files, metrics = encode(
        options.folder,
        options.out,
        model=options.model,
        options=EncodeOptions(
            clip_stride=options.clip_stride,
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
        progress=create_progress_bar("clip"),
        warn=lambda sentence: print(sentence, file=sys.stderr),
    )
    return {"files": files, **metrics} if options.json else metrics


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo decode`."""
    parser.add_argument("codes", help="folder written by `vqvideo encode`, or one code file")
    parser.add_argument(
        "out", help="output folder; files of an earlier run are kept, any other is never replaced"
    )
    parser.add_argument("--model", default="video", help="the model that encoded the files")
    parser.add_argument(
        "--suffix",
        help="suffix of the output files: .mp4, .mkv or .apng (lossless), .webp, .gif; .wav, "
        ".flac; .png",
    )
    parser.add_argument(
        "--num-processes", type=int, default=1, help="code files decoded in parallel (default: 1)"
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_decode)


def _run_decode(options: argparse.Namespace) -> Any:
    from vqvideo.commands.decode import decode

    return decode(
        options.codes,
        options.out,
        model=options.model,
        suffix=options.suffix,
        num_processes=options.num_processes,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("clip"),
    )
