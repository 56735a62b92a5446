"""The commands of the recipe for speech: `convert-speaker` and `phonemes`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, get_arguments, option, parse_seed

DEFAULT_OUT = "outputs/phonemes"
SHOWN_METRICS = (
    "accuracy",
    "accuracy_with_silence",
    "majority_accuracy",
    "random_codes_accuracy",
    "num_frames",
)


def _run_convert_speaker(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.speech.convert_speaker import convert_speaker

    arguments = get_arguments(options, skip=("file",))
    files, record = convert_speaker(options.file, **arguments, progress=create_progress_bar("code"))
    return {"files": files, **record} if options.json else files


CONVERT_SPEAKER = Command(
    "Convert speech to another speaker's voice.",
    _run_convert_speaker,
    [
        option("file IN", "an audio file, or a video with audio"),
        option("out OUT", "output file, .wav or .flac"),
        option(
            "--speaker ID", "target speaker; an unknown one lists the known speakers", required=True
        ),
        shared.model_option("audio-25hz"),
        shared.DECODER_TEMPERATURE,
        option("--seed", "random seed of the decoder", parse_seed, default=0),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)


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
    arguments = get_arguments(options, skip=("file", "phone_map", "out"))
    files, metrics = learn_phones(
        **arguments, out=options.out or DEFAULT_OUT, progress=create_progress_bar("file")
    )
    if options.json:
        return {"files": files, **metrics}
    return [*(f"{name}: {metrics[name]:.4g}" for name in SHOWN_METRICS), *files]


def _run_transcribe(options: argparse.Namespace) -> Any:
    from vqvideo.recipes.speech.transcribe import transcribe

    if options.test_data is not None or options.silence is not None:
        raise ValueError("--test-data and --silence are for --data, not for FILE")
    out = options.out or str(Path(DEFAULT_OUT) / Path(options.file).stem)
    arguments = get_arguments(options, skip=("file", "data", "test_data", "silence", "out"))
    files, transcript = transcribe(options.file, **arguments, out=out)
    if options.json:
        return {"files": files, **transcript}
    for file in files:
        print(file, file=sys.stderr)
    return [f"{start:.3f} {end:.3f} {phone}" for start, end, phone in transcript["segments"]]


PHONEMES = Command(
    "Classify phones from the codes of speech.",
    _run_phonemes,
    [
        option("file FILE", "an audio file to transcribe into phones", nargs="?"),
        option(
            "--data FOLDER",
            "speech with segments in its metadata.jsonl, to learn the phone of each code",
        ),
        option("--test-data FOLDER", "data to test on; default: the test split of --data"),
        shared.model_option("audio-25hz"),
        option(
            "--phone-map FILE",
            "phones.json learnt with --data, to transcribe FILE; default: that of the model",
        ),
        option(
            "--silence LABEL",
            "label of silence, excluded from the accuracy; repeatable (default: SIL)",
            action="append",
        ),
        option(
            "--out FOLDER", f"output folder (default: {DEFAULT_OUT}; for FILE, {DEFAULT_OUT}/NAME)"
        ),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
