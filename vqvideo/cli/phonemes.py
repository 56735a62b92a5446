"""The command that tells phones from the codes of speech."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vqvideo.cli.options import add_device, add_overwrite, progress_bar

OUT = "outputs/phonemes"
SHOWN = (
    "accuracy",
    "accuracy_with_silence",
    "commonest_accuracy",
    "drawn_codes_accuracy",
    "num_frames",
)


def add_phonemes(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo phonemes`."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="a sound to write in phones")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="speech with segments in its metadata.jsonl, to learn the phone of each code from",
    )
    parser.add_argument(
        "--test-data", metavar="FOLDER", help="to count on; default: that of --data"
    )
    parser.add_argument(
        "--model", default="audio-25hz", help="a shipped model or the folder of a run"
    )
    parser.add_argument(
        "--map", metavar="FILE", help="phones.json of --data, for a FILE; default: the model's"
    )
    parser.add_argument(
        "--silence",
        action="append",
        metavar="LABEL",
        help="left out; may be given several times (default: SIL)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help=f"default: {OUT}; of a FILE, {OUT}/ and its name"
    )
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_phonemes)


def _phonemes(options: argparse.Namespace) -> Any:
    if (options.file is None) == (options.data is None):
        raise ValueError(
            "give either --data FOLDER, to learn which phone each code stands for, or a FILE, to "
            f"write in phones; got {'neither' if options.file is None else 'both'}"
        )
    return _learn(options) if options.file is None else _transcribe(options)


def _learn(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.speech.phonemes import learn_phones

    if options.map is not None:
        raise ValueError("--map is about a FILE; --data learns a map of its own")
    files, figures = learn_phones(
        model=options.model,
        data=options.data,
        test_data=options.test_data,
        out=options.out or OUT,
        silence=options.silence,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("file"),
    )
    if options.json:
        return {"files": files, **figures}
    return [*(f"{name}: {figures[name]:.4g}" for name in SHOWN), *files]


def _transcribe(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.speech.transcribe import transcribe

    if options.test_data is not None or options.silence is not None:
        raise ValueError("--test-data and --silence are about --data; a FILE takes neither")
    files, figures = transcribe(
        options.file,
        model=options.model,
        phone_map=options.map,
        out=options.out or str(Path(OUT) / Path(options.file).stem),
        device=options.device,
        overwrite=options.overwrite,
    )
    if options.json:
        return {"files": files, **figures}
    for file in files:
        print(file, file=sys.stderr)
    return [f"{start:.3f} {end:.3f} {phone}" for start, end, phone in figures["segments"]]
