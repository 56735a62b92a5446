"""The commands that write and read code files: `encode` and `decode`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, flag, get_arguments, option


def _run_encode(options: argparse.Namespace) -> Any:
    from vqvideo.commands.encode import encode
    from vqvideo.commands.encode_options import EncodeOptions

    files, metrics = encode(
        options.folder,
        options.out,
        model=options.model,
        options=EncodeOptions(**get_arguments(options, skip=("folder", "out", "model"))),
        progress=create_progress_bar("clip"),
        warn=lambda sentence: print(sentence, file=sys.stderr),
    )
    return {"files": files, **metrics} if options.json else metrics


ENCODE = Command(
    "Encode a folder of media files into code files.",
    _run_encode,
    [
        option("folder", "folder of media files, with or without metadata.jsonl"),
        option("out", "folder for the code files; an interrupted run resumes there"),
        shared.model_option("video"),
        option(
            "--clip-stride FRAMES",
            "encode windows of the model's length with starts this far apart; default: encode "
            "each file as one clip",
            int,
        ),
        shared.SIZE,
        shared.FIT,
        shared.FPS,
        flag(
            "--compress",
            "compress codes under the model's prior; such files cannot be used for training",
        ),
        shared.NUM_PROCESSES,
        option(
            "--engine",
            "use processes on this machine, or workers of a Ray cluster (default: processes)",
            default="processes",
            choices=("processes", "ray"),
        ),
        shared.MAX_CORRUPT,
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)


def _run_decode(options: argparse.Namespace) -> Any:
    from vqvideo.commands.decode import decode

    arguments = get_arguments(options, skip=("codes", "out"))
    progress = create_progress_bar("clip")
    return decode(options.codes, options.out, **arguments, progress=progress)


DECODE = Command(
    "Decode code files into media files.",
    _run_decode,
    [
        option("codes", "folder written by `vqvideo encode`, or one code file"),
        option(
            "out", "output folder; files of an earlier run are kept, any other is never replaced"
        ),
        option("--model", "the model that encoded the files", default="video"),
        option(
            "--suffix",
            "suffix of the output files: .mp4, .mkv or .apng (lossless), .webp, .gif; .wav, "
            ".flac; .png",
        ),
        shared.NUM_PROCESSES,
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
