"""`vqvideo phonemes FILE`: the phones of a sound, as its codes tell them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from vqvideo import media
from vqvideo.data.metadata import Item, Segment
from vqvideo.data.utterances import Utterance
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.folder import folder_of_whole_files
from vqvideo.jobs.model import output_files
from vqvideo.jobs.speech.model import (
    check_one_codebook,
    codes_of,
    open_speech_model,
    sample_rate,
    seconds_per_frame,
)
from vqvideo.jobs.speech.phone_map import PhoneMap, find_map
from vqvideo.report.machine import setting
from vqvideo.report.phonemes import write_transcript
from vqvideo.report.picture import matplotlib_figure

FILES = TRANSCRIPT, PICTURE = ("phonemes.json", "phonemes.png")


def transcribe(
    file: str,
    *,
    model: str,
    phone_map: str | None = None,
    out: str = "outputs/phonemes",
    device: str = "auto",
    overwrite: bool = False,
) -> tuple[list[Path], dict[str, Any]]:
    """Write down the phones of a sound file, as its codes tell them; it needs no labels.

    Args:
        file: any file with sound that FFmpeg reads, at least one code long.
        model: a model of sound, by its name or the folder of a trained one.
        phone_map: the `phones.json` that `learn_phones` (phonemes.py) left; None takes the one in
            the folder of the model.
        out: a folder. It gets `phonemes.json` and `phonemes.png`: the spectrogram, with codes and
            phones below.
        device: see `open_model`.
        overwrite: replace the files of an earlier run.

    Returns:
        The files written; and what `phonemes.json` holds: among other things the `codes`, and the
        `segments` `[start_seconds, end_seconds, phone]`, in the form that `metadata.jsonl` has.

    Raises:
        ImportError: matplotlib is missing (extra `report`).
        FileNotFoundError: no such file, or no map.
        FileExistsError, ValueError: before any work is done; or the sound is too short for a code.
        media.MediaError: the sound cannot be read.
    """
    folder = Path(out)
    for name in FILES:
        output_files(folder / name, 1, overwrite)
    matplotlib_figure()  # missing, it is better known before the work than after
    generator = open_speech_model(model, device)
    check_one_codebook(generator, model)
    path = find_map(model, phone_map)
    said = PhoneMap.read(path, generator.vqvae, model).phones_with_silence
    rate = sample_rate(generator)
    samples = media.read_audio(file, sample_rate=rate).samples
    codes = codes_of(generator, Utterance(Item(Path(file)), samples)).tolist()
    phones, each = [said[code] for code in codes], seconds_per_frame(generator)
    seconds = samples.shape[1] / rate
    figures = {
        "file": file,
        "model": model,
        "map": str(path),
        "seconds": seconds,
        "seconds_per_frame": each,
        "codes": codes,
        "segments": [list(segment) for segment in _runs(phones, each, seconds)],
        "command": command_line(),
        "setting": setting(),
    }
    with folder_of_whole_files(folder, FILES) as unfinished:
        table = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
        (unfinished / TRANSCRIPT).write_text(table + "\n", encoding="utf-8")
        write_transcript(unfinished / PICTURE, samples, rate, codes, phones, each)
    return [folder / name for name in FILES], figures


def _runs(phones: Iterable[str], seconds_per_frame: float, seconds: float) -> Iterator[Segment]:
    """Runs of equal phones, the last as long as the sound lasts.

    >>> [tuple(run) for run in _runs(["S", "S", "IY"], 0.5, 1.25)]
    [(0.0, 1.0, 'S'), (1.0, 1.25, 'IY')]
    """
    begun = 0
    for phone, run in groupby(phones):
        stop = begun + sum(1 for _ in run)
        end = min(stop * seconds_per_frame, seconds)
        yield Segment(round(begun * seconds_per_frame, 6), round(end, 6), phone)
        begun = stop
