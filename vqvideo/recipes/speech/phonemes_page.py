"""HTML page of `vqvideo phonemes`: metrics with explanations, and plots.

It depends only on the files of the folder, so that it can be written again later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqvideo.atomic import write_text
from vqvideo.report.elements import (
    render_heading,
    render_media,
    render_page,
    render_paragraph,
    render_preformatted,
    render_table,
)

METRICS_NAME, PAGE_NAME = "phonemes.json", "index.html"
PLOT_NAMES = ("confusion.png", "codes.png")
SUMMARY_KEYS = ("model", "data", "test_data", "seconds_per_frame", "codebook_size")
COUNT_TITLES = {
    "num_frames": "test frames",
    "num_labels": "distinct phones in them",
    "num_codes_used": "distinct codes in them",
    "num_train_frames": "training frames",
}
ACCURACY_TITLES = {
    "accuracy": "accuracy",
    "majority_accuracy": "baseline: the most frequent phone for every frame",
    "random_codes_accuracy": "baseline: codes sampled from their marginal distribution",
}
RATIO_TITLES = {
    "times_majority": "accuracy / first baseline",
    "times_random_codes": "accuracy / second baseline",
}
BIT_TITLES = {
    "mutual_information_bits": "mutual information of code and phone, bits",
    "phone_entropy_bits": "entropy of the phones, bits",
}
Metrics = Mapping[str, Any]


def write_phonemes_page(folder: str | Path) -> Path:
    """Write `index.html` from `phonemes.json` and the plots of a folder; return its path."""
    folder = Path(folder)
    metrics = json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    parts = [*_render_summary(metrics), *_render_accuracy(metrics), *_render_speakers(metrics)]
    parts += [*_render_plots(folder), *_render_recall(metrics)]
    parts += [render_heading("Command"), render_preformatted(metrics["command"])]
    parts += [render_heading("Versions and machine"), render_table(metrics["environment"])]
    title = f"Phones in the codes of {Path(metrics['model']).name}"
    write_text(folder / PAGE_NAME, render_page(title, parts))
    return folder / PAGE_NAME


def _render_summary(metrics: Metrics) -> Iterator[str]:
    summary = {name.replace("_", " "): metrics[name] for name in SUMMARY_KEYS}
    yield render_table({**summary, "silence": " ".join(metrics["silence"])})
    yield render_paragraph(
        "Each code is mapped to its most frequent phone in the training frames. The accuracy is "
        "the share of test frames whose phone equals that of their code (van den Oord et al. 2017, "
        "section 4.3)."
    )


def _render_accuracy(metrics: Metrics) -> Iterator[str]:
    yield render_heading("Accuracy")
    columns = ("", "_with_silence")

    def format_values(name: str, form: str) -> tuple[str, ...]:
        values = (metrics[name + column] for column in columns)
        return tuple("–" if value is None else format(value, form) for value in values)

    rows = {title: format_values(name, ".1%") for name, title in ACCURACY_TITLES.items()}
    rows |= {
        title: format_values(name, ".2f") for name, title in (RATIO_TITLES | BIT_TITLES).items()
    }
    rows |= {title: format_values(name, ",") for name, title in COUNT_TITLES.items()}
    yield render_table(rows, ("", "without silence", "with silence"))
    unseen = metrics["labels_unseen_in_training"]
    if unseen:
        yield render_paragraph(
            f"No training frame has {', '.join(unseen)}, so every test frame with such a phone is "
            f"wrong."
        )


def _render_speakers(metrics: Metrics) -> Iterator[str]:
    yield render_heading("Speakers")
    shared = metrics["num_speakers_shared"]
    yield render_paragraph(
        f"{metrics['num_speakers']} speakers are named in the test files; {shared} of them "
        f"{'is' if shared == 1 else 'are'} in the training files too."
    )
    over_speakers = metrics["accuracy_over_speakers"]
    if over_speakers and over_speakers["ci95"]:
        low, high = over_speakers["ci95"]
        yield render_paragraph(
            f"The mean of the speakers' accuracies is {over_speakers['mean']:.1%}, with a 95 % "
            f"confidence interval over speakers of {low:.1%} to {high:.1%}."
        )


def _render_plots(folder: Path) -> Iterator[str]:
    yield render_heading("Confusions and codes")
    for name in PLOT_NAMES:
        yield render_media(folder / name, name)


def _render_recall(metrics: Metrics) -> Iterator[str]:
    yield render_heading("Phones")
    rows = {
        phone: (f"{values['recall']:.1%}", f"{values['num_frames']:,}")
        for phone, values in metrics["recall"].items()
    }
    yield render_table(rows, ("phone", "recall", "test frames"))
