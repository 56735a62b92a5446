"""The page of `vqvideo phonemes`: its figures, in words where they need them, and its pictures.

It is made from the files of the folder alone, so that it can be made again later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqvideo.report.elements import heading, picture, sentence, table, text, whole

FIGURES, PAGE = "phonemes.json", "index.html"
PICTURES = ("confusion.png", "codes.png")
ABOUT = ("model", "data", "test_data", "seconds_per_frame", "codebook_size")
COUNTS = {
    "num_frames": "test frames",
    "num_labels": "different phones among them",
    "num_codes_used": "different codes among them",
    "num_train_frames": "training frames",
}
RATES = {
    "accuracy": "accuracy",
    "commonest_accuracy": "if the commonest phone were said of every frame",
    "drawn_codes_accuracy": "if codes were drawn from how often each occurs",
}
TIMES = {"times_commonest": "accuracy, times the first", "times_drawn_codes": "times the second"}
BITS = {
    "mutual_information_bits": "bits that a code tells of its phone (mutual information)",
    "phone_entropy_bits": "bits to be told (entropy of the phones)",
}
Figures = Mapping[str, Any]


def write_phonemes(folder: str | Path) -> Path:
    """Write `index.html` of `phonemes.json` and the pictures beside it; returns the page."""
    folder = Path(folder)
    figures = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    parts = [*_summary(figures), *_accuracy(figures), *_speakers(figures)]
    parts += [*_pictures(folder), *_recall(figures)]
    parts += [heading("Command"), text(figures["command"])]
    parts += [heading("Versions and machine"), table(figures["setting"])]
    title = f"Phones in the codes of {Path(figures['model']).name}"
    (folder / PAGE).write_text(whole(title, parts), encoding="utf-8")
    return folder / PAGE


def _summary(figures: Figures) -> Iterator[str]:
    said = {name.replace("_", " "): figures[name] for name in ABOUT}
    yield table({**said, "silence": " ".join(figures["silence"])})
    yield sentence(
        "Each code stands for the phone that it has most often in the training frames. Whether it "
        "has that phone in the test frames too is what is counted (van den Oord et al. 2017, "
        "section 4.3)."
    )


def _accuracy(figures: Figures) -> Iterator[str]:
    yield heading("Accuracy")
    columns = ("", "_with_silence")

    def shown(name: str, form: str) -> tuple[str, ...]:
        found = (figures[name + column] for column in columns)
        return tuple("–" if value is None else format(value, form) for value in found)

    rows = {title: shown(name, ".1%") for name, title in RATES.items()}
    rows |= {title: shown(name, ".2f") for name, title in (TIMES | BITS).items()}
    rows |= {title: shown(name, ",") for name, title in COUNTS.items()}
    yield table(rows, ("", "without silence", "with silence"))
    unseen = figures["labels_unseen_in_training"]
    if unseen:
        yield sentence(
            f"No training frame has {', '.join(unseen)}, so every test frame that has is wrong."
        )


def _speakers(figures: Figures) -> Iterator[str]:
    yield heading("Speakers")
    shared = figures["num_speakers_shared"]
    yield sentence(
        f"{figures['num_speakers']} speakers are named in the test files; {shared} of them "
        f"{'is' if shared == 1 else 'are'} in the training files too."
    )
    over = figures["accuracy_over_speakers"]
    if over and over["ci95"]:
        low, high = over["ci95"]
        yield sentence(
            f"Each counted alike, their mean accuracy is {over['mean']:.1%}, 95 % confidence "
            f"interval over speakers {low:.1%} to {high:.1%}."
        )


def _pictures(folder: Path) -> Iterator[str]:
    yield heading("What is taken for what")
    for name in PICTURES:
        yield picture(folder / name, name)


def _recall(figures: Figures) -> Iterator[str]:
    yield heading("Phones")
    rows = {
        phone: (f"{found['recall']:.1%}", f"{found['num_frames']:,}")
        for phone, found in figures["recall"].items()
    }
    yield table(rows, ("phone", "recall", "test frames"))
