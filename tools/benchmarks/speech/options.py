"""`benchmark.py speech`."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, get_arguments, option, parse_seed


def _run_speech(options: argparse.Namespace) -> Any:
    from benchmarks.speech.run import SpeechBenchmarkConfig, benchmark_speech
    from benchmarks.speech.table import format_speech_table

    files, results = benchmark_speech(
        SpeechBenchmarkConfig(**get_arguments(options, skip=("out", "overwrite"))),
        out=options.out,
        overwrite=options.overwrite,
        progress=create_progress_bar("utterance"),
    )
    if options.json:
        return {"files": files, **results}
    return [format_speech_table(results), "", *files]


SPEECH = Command(
    "Measure a speech model: speaker conversion and phone classification.",
    _run_speech,
    [
        option("--model", "a speech model conditioned on the speaker", required=True),
        option("--data FOLDER", "speech of the training speakers", required=True),
        option("--unseen FOLDER", "speech of unseen speakers", required=True),
        option("--phone-map FILE", "phones.json; default: that of the model, if any"),
        option(
            "--max-utterances N",
            "maximum utterances per folder (default: all; 8 for an autoregressive likelihood)",
            int,
        ),
        option("--num-targets", "number of target speakers (default: 6)", default=6),
        option("--seed", "random seed of the decoder", parse_seed, default=0),
        shared.out_option("outputs/speech"),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
