"""`vqvideo phonemes --data`: which phone each code of speech stands for, and how often it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vqvideo.checkpoint import PHONES
from vqvideo.data.metadata import Item
from vqvideo.data.utterances import frame_labels, labelled_items, read_utterances
from vqvideo.generator import Generator
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
from vqvideo.jobs.speech.phone_map import PhoneMap
from vqvideo.jobs.speech.phonemes_figures import Frames, Split, figures_of, most_frequent, split_of
from vqvideo.report.machine import setting
from vqvideo.report.phonemes import write_codes, write_confusion
from vqvideo.report.phonemes_page import FIGURES, PAGE, PICTURES, write_phonemes
from vqvideo.report.picture import matplotlib_figure

FILES = (PHONES, FIGURES, PAGE, *PICTURES)
SILENCE = "SIL"


def learn_phones(
    *,
    model: str,
    data: str,
    test_data: str | None = None,
    out: str = "outputs/phonemes",
    silence: Sequence[str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Learn the phone that each code stands for, and count how often it is right on other speech.

    As section 4.3 of van den Oord et al. 2017 does: a code is mapped to its most frequent phone.
    With 25 codes a second the paper finds that 49.3 % of the frames are told rightly, and 7.2 % by
    codes drawn from the prior.

    Args:
        model: a model of sound, by its name or the folder of a trained one.
        data: a folder whose `metadata.jsonl` has `segments`: its train split is learnt from.
        test_data: another such folder, whose test split is counted on; None is that of `data`.
        out: a folder. It gets `phones.json` (the map), `phonemes.json` (all figures, see
            `figures_of`; those with `_with_silence` count frames of silence as well),
            `index.html` (one page with everything), `confusion.png` and `codes.png`.
        silence: labels that are no phones; their frames are left out. None is "SIL", if there is
            such a label.
        device: see `open_model`.
        overwrite: replace the files of an earlier run.
        progress: called with (files read, files in all).

    Returns:
        The files written, and the figures.

    Raises:
        ImportError: matplotlib is missing (extra `report`).
        FileExistsError, ValueError: before any work is done; or a sound is too short for a code.
        media.MediaError: a sound cannot be read.
    """
    started, folder = time.monotonic(), Path(out)
    for name in FILES:
        output_files(folder / name, 1, overwrite)
    matplotlib_figure()  # missing, it is better known before the pass than after
    train, test = labelled_items(data, "train"), labelled_items(test_data or data, "test")
    left_out = _check_items(train, test, silence)
    generator = open_speech_model(model, device)
    check_one_codebook(generator, model)
    frames = list(_frames(generator, [*train, *test], progress))
    size = generator.vqvae.quantizer.codebook_size
    everything = split_of(frames[: len(train)], frames[len(train) :], size)
    spoken = everything.without(left_out)
    with_silence = figures_of(everything)
    figures = {
        "model": model,
        "data": data,
        "test_data": test_data or data,
        "silence": list(left_out),
        "seconds_per_frame": seconds_per_frame(generator),
        "codebook_size": size,
        "num_train_files": len(train),
        "num_test_files": len(test),
        **_speakers(train, test),
        **figures_of(spoken),
        **{f"{name}_with_silence": value for name, value in with_silence.items()},
        "seconds": round(time.monotonic() - started, 2),
        "command": command_line(),
        "setting": setting(),
    }
    with folder_of_whole_files(folder, FILES) as unfinished:
        _map_of(generator, everything, left_out).write(unfinished / PHONES)
        table = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
        (unfinished / FIGURES).write_text(table + "\n", encoding="utf-8")
        _draw(unfinished, spoken)
        write_phonemes(unfinished)
    return [folder / name for name in FILES], figures


def _check_items(
    train: Sequence[Item], test: Sequence[Item], silence: Sequence[str] | None
) -> tuple[str, ...]:
    """The labels of silence, after a look at what is to be read."""
    learnt_from = {item.path.resolve() for item in train}
    both = next((item.path for item in test if item.path.resolve() in learnt_from), None)
    if both is not None:
        raise ValueError(
            f"{both} would be learnt from and counted on; say in metadata.jsonl which files are "
            'for testing ("split": "test"), or give others as --test-data'
        )
    labels = sorted({segment.label for item in (*train, *test) for segment in item.segments})
    unknown = [label for label in silence or () if label not in labels]
    if unknown:
        raise ValueError(
            f"--silence {unknown[0]!r} is the label of no segment; they are: {' '.join(labels)}"
        )
    return (SILENCE,) if silence is None else tuple(silence)


def _frames(
    generator: Generator, items: Sequence[Item], progress: Callable[[int, int], None] | None
) -> Iterator[Frames]:
    """The labelled frames of each file."""
    each, rate = seconds_per_frame(generator), sample_rate(generator)
    for utterance in read_utterances(items, sample_rate=rate, progress=progress):
        codes = codes_of(generator, utterance)
        labels = frame_labels(utterance.item.segments, len(codes), each)
        has_label = torch.tensor([label is not None for label in labels])
        kept = [label for label in labels if label is not None]
        yield Frames(codes[has_label], kept, utterance.item.speaker)


def _speakers(train: Sequence[Item], test: Sequence[Item]) -> dict[str, int]:
    known, tested = ({item.speaker for item in items if item.speaker} for items in (train, test))
    return {"num_speakers": len(tested), "num_speakers_shared": len(known & tested)}


def _map_of(generator: Generator, everything: Split, silence: tuple[str, ...]) -> PhoneMap:
    labels, spoken = everything.labels, everything.without(silence)
    phones, with_silence = (
        tuple(labels[index] for index in most_frequent(counts).tolist())
        for counts in (spoken.train, everything.train)
    )
    return PhoneMap(
        fingerprint=generator.vqvae.fingerprint(),
        seconds_per_frame=seconds_per_frame(generator),
        silence=silence,
        labels=tuple(labels[i] for i in everything.train.any(dim=0).nonzero().flatten().tolist()),
        phones=phones,
        phones_with_silence=with_silence,
    )


def _draw(folder: Path, spoken: Split) -> None:
    mapping = most_frequent(spoken.train)
    confusion = torch.zeros(len(spoken.labels), len(spoken.labels), dtype=torch.int64)
    confusion.index_add_(1, mapping, spoken.test.T.contiguous())
    write_confusion(folder / "confusion.png", confusion, spoken.labels)
    write_codes(folder / "codes.png", spoken.train, mapping, spoken.labels)
