"""`vqvideo phonemes FILE`: transcribe an audio file into phones by its codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from vqvideo import media
from vqvideo.atomic import replace_files
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import check_output_files
from vqvideo.data.metadata import Item, Segment
from vqvideo.recipes.speech.model import (
    check_single_codebook,
    encode_utterance,
    get_sample_rate,
    get_seconds_per_frame,
    load_speech_model,
)
from vqvideo.recipes.speech.phone_map import PhoneMap, find_phone_map
from vqvideo.recipes.speech.phonemes_plots import write_transcript
from vqvideo.recipes.speech.utterances import Utterance
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.report.environment import collect_environment

OUTPUT_FILES = TRANSCRIPT, PLOT = ("phonemes.json", "phonemes.png")


def transcribe(
    file: str,
    *,
    model: str,
    phone_map: str | None = None,
    out: str = "outputs/phonemes",
    device: str = "auto",
    overwrite: bool = False,
) -> tuple[list[Path], dict[str, Any]]:
    """Transcribe an audio file into phones by its codes; no labels are needed.

    Args:
        file: any file with audio that FFmpeg reads, at least one code long.
        model: name of a shipped audio model, or the folder of a trained one.
        phone_map: a `phones.json` written by `learn_phones` (phonemes.py); None for the one in the
            folder of the model.
        out: the output folder. It gets `phonemes.json` and `phonemes.png`: the spectrogram, with
            codes and phones below.
        device: see `load_model`.
        overwrite: replace the files of an earlier run.

    Returns:
        The files written, and the content of `phonemes.json`: among others the `codes`, and the
        `segments` `[start_seconds, end_seconds, phone]` in the format of `metadata.jsonl`.

    Raises:
        ImportError: matplotlib is missing (extra `report`).
        FileNotFoundError: the file or the phone map does not exist.
        FileExistsError, ValueError: the arguments are invalid, raised before any work is done; or
            the file is shorter than one code.
        media.MediaError: the audio cannot be read.
    """
    folder = Path(out)
    for name in OUTPUT_FILES:
        check_output_files(folder / name, 1, overwrite)
    import_figure_class()  # fail before the work if matplotlib is missing
    generator = load_speech_model(model, device)
    check_single_codebook(generator, model)
    path = find_phone_map(model, phone_map)
    phone_of_code = PhoneMap.read(path, generator.vqvae, model).phones_with_silence
    rate = get_sample_rate(generator)
    samples = media.read_audio(file, sample_rate=rate).samples
    codes = encode_utterance(generator, Utterance(Item(Path(file)), samples)).tolist()
    phones, seconds_per_frame = (
        [phone_of_code[code] for code in codes],
        get_seconds_per_frame(generator),
    )
    seconds = samples.shape[1] / rate
    metrics = {
        "file": file,
        "model": model,
        "map": str(path),
        "seconds": seconds,
        "seconds_per_frame": seconds_per_frame,
        "codes": codes,
        "segments": [
            list(segment) for segment in _collapse_runs(phones, seconds_per_frame, seconds)
        ],
        "command": get_command_line(),
        "environment": collect_environment(),
    }
    with replace_files(folder, OUTPUT_FILES, overwrite=overwrite) as temporary:
        table = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / TRANSCRIPT).write_text(table + "\n", encoding="utf-8")
        write_transcript(temporary / PLOT, samples, rate, codes, phones, seconds_per_frame)
    return [folder / name for name in OUTPUT_FILES], metrics


def _collapse_runs(
    phones: Iterable[str], seconds_per_frame: float, seconds: float
) -> Iterator[Segment]:
    """Yield segments of equal phones; the last ends with the audio.

    >>> [tuple(run) for run in _collapse_runs(["S", "S", "IY"], 0.5, 1.25)]
    [(0.0, 1.0, 'S'), (1.0, 1.25, 'IY')]
    """
    start = 0
    for phone, run in groupby(phones):
        stop = start + sum(1 for _ in run)
        end = min(stop * seconds_per_frame, seconds)
        yield Segment(round(start * seconds_per_frame, 6), round(end, 6), phone)
        start = stop
