"""Options of the command that classifies phones from the codes of speech."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vqvideo.cli.options import add_device_option, add_overwrite_option, create_progress_bar

DEFAULT_OUT = "outputs/phonemes"
SHOWN_METRICS = (
    "accuracy",
    "accuracy_with_silence",
    "majority_accuracy",
    "random_codes_accuracy",
    "num_frames",
)


def add_phonemes_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo phonemes`."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="an audio file to transcribe into phones"
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="speech with segments in its metadata.jsonl, to learn the phone of each code",
    )
    parser.add_argument(
        "--test-data", metavar="FOLDER", help="data to test on; default: the test split of --data"
    )
    parser.add_argument("--model", default="audio-25hz", help="a shipped model or a run folder")
    parser.add_argument(
        "--phone-map",
        metavar="FILE",
        help="phones.json learnt with --data, to transcribe FILE; default: that of the model",
    )
    parser.add_argument(
        "--silence",
        action="append",
        metavar="LABEL",
        help="label of silence, excluded from the accuracy; repeatable (default: SIL)",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help=f"output folder (default: {DEFAULT_OUT}; for FILE, {DEFAULT_OUT}/NAME)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_phonemes)


def _run_phonemes(options: argparse.Namespace) -> Any:
    if (options.file is None) == (options.data is None):
        raise ValueError(
            "give either --data FOLDER, to learn the phone of each code, or FILE, to transcribe; "
            f"got {'neither' if options.file is None else 'both'}"
        )
    return _run_learn(options) if options.file is None else _run_transcribe(options)


def _run_learn(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.speech.phonemes import learn_phones

    if options.phone_map is not None:
        raise ValueError("--phone-map is for FILE; --data learns a new map")
    files, metrics = learn_phones(
        model=options.model,
        data=options.data,
        test_data=options.test_data,
        out=options.out or DEFAULT_OUT,
        silence=options.silence,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("file"),
    )
    if options.json:
        return {"files": files, **metrics}
    return [*(f"{name}: {metrics[name]:.4g}" for name in SHOWN_METRICS), *files]


def _run_transcribe(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.speech.transcribe import transcribe

    if options.test_data is not None or options.silence is not None:
        raise ValueError("--test-data and --silence are for --data, not for FILE")
    files, transcript = transcribe(
        options.file,
        model=options.model,
        phone_map=options.phone_map,
        out=options.out or str(Path(DEFAULT_OUT) / Path(options.file).stem),
        device=options.device,
        overwrite=options.overwrite,
    )
    if options.json:
        return {"files": files, **transcript}
    for file in files:
        print(file, file=sys.stderr)
    return [f"{start:.3f} {end:.3f} {phone}" for start, end, phone in transcript["segments"]]
