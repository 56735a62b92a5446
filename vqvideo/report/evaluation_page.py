"""HTML page of an evaluation: metrics with explanations, and media.

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

METRICS_NAME, PAGE_NAME = "evaluation.json", "evaluation.html"
MEDIA_NAMES = (
    "reconstructions.png",
    "reconstructions.mp4",
    "reconstructions.wav",
    "samples.png",
    "samples.mp4",
    "samples.wav",
    "codebook.png",
)
ELBO_TERMS = {  # in the order of the table
    "reconstruction": "reconstruction, log p(x | z_q)",
    "prior": "codes under the prior, log p(z_q)",
    "elbo": "ELBO: reconstruction and prior",
    "uniform": "codes under the uniform prior, -N ln K",
    "uniform_elbo": "ELBO: reconstruction and uniform prior",
}
SUMMARY_KEYS = ("model", "data", "split", "num_windows", "likelihood", "prior")
CODEBOOK_KEYS = ("usage", "perplexity", "num_dead", "codebook_size", "num_codes")
Metrics = Mapping[str, Any]


def write_evaluation_page(folder: str | Path) -> Path:
    """Write `evaluation.html` from `evaluation.json` and media of a folder; return its path."""
    folder = Path(folder)
    metrics = json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    parts = [*_render_summary(metrics), *_render_unreadable_files(metrics)]
    parts += [*_render_elbo(metrics), *_render_reconstructions(folder, metrics)]
    parts += [
        *_render_compression(metrics),
        *_render_samples(folder, metrics),
        *_render_codebook(folder, metrics),
    ]
    parts += [render_heading("Command"), render_preformatted(metrics["command"])]
    parts += [render_heading("Versions and machine"), render_table(metrics["environment"])]
    title = f"Evaluation of {Path(metrics['model']).name}"
    write_text(folder / PAGE_NAME, render_page(title, parts))
    return folder / PAGE_NAME


def _render_summary(metrics: Metrics) -> Iterator[str]:
    summary = {
        name.replace("_", " "): metrics[name] for name in SUMMARY_KEYS if metrics[name] is not None
    }
    yield render_table({**summary, "scored": f"{metrics['num_items']:,} windows"})
    for note in metrics["notes"]:
        yield render_paragraph(note)


def _render_unreadable_files(metrics: Metrics) -> Iterator[str]:
    if metrics["unreadable_files"]:
        yield render_heading("Files that could not be read")
        num_windows = metrics["num_unreadable_windows"]
        yield render_paragraph(
            f"{num_windows:,} of the windows to be scored could not be decoded and are excluded "
            f"from all metrics; a file whose length could not be read contributes no windows."
        )
        yield render_table({each["file"]: each["reason"] for each in metrics["unreadable_files"]})


def _render_elbo(metrics: Metrics) -> Iterator[str]:
    means, has_bits = metrics["means"], metrics["is_discrete"]
    yield render_heading("Lower bound on log p(x)")
    rows = {}
    for name, title in ELBO_TERMS.items():
        if f"{name}_nats" in means:
            bits = (_format_mean(means[f"{name}_bits_per_dim"], 4),) if has_bits else ()
            rows[title] = (_format_mean(means[f"{name}_nats"], 1), *bits)
    head = ("mean per item", "nats", *(("bits per dimension",) if has_bits else ()))
    yield render_table(rows, head)
    bits_note = "; bits per dimension are code lengths, lower is better" if has_bits else ""
    yield render_paragraph(f"Nats are log-probabilities, higher is better{bits_note}.")
    if metrics["num_items"] > 1:
        yield render_paragraph(f"± is half the width of the {metrics['interval']}.")


def _render_reconstructions(folder: Path, metrics: Metrics) -> Iterator[str]:
    means = metrics["means"]
    yield render_heading("Reconstructions")
    psnr_title = f"PSNR of the mean squared error over {means['psnr_db']['num_items']:,} items, dB"
    rows = {
        psnr_title: f"{metrics['psnr_db_of_mean_squared_error']:.2f}",
        "mean of the items' PSNR, dB": _format_mean(means["psnr_db"], 2),
    }
    if "ssim" in means:
        rows["mean SSIM"] = _format_mean(means["ssim"], 4)
    if "mel_distance" in means:
        rows["mean multi-scale mel distance (1 = 8.7 dB)"] = _format_mean(means["mel_distance"], 3)
    yield render_table(rows)
    title = "Originals above their reconstructions"
    yield from _render_media_files(folder, "reconstructions", title)


def _render_compression(metrics: Metrics) -> Iterator[str]:
    compression = metrics["compression"]
    codes = " x ".join(map(str, metrics["codes"]))
    yield render_heading("Compression")
    rows = {
        f"an item, {compression['bits_per_value']:g} bits per value": (
            f"{compression['data_bits']:,.0f}",
            "",
        ),
        f"{codes} codes of {metrics['codebook_size']}": _format_bits(
            compression, "code_bits", "ratio"
        ),
    }
    if "prior_ratio" in compression:
        rows["the same codes under the prior"] = _format_bits(
            compression, "prior_code_bits", "prior_ratio"
        )
    yield render_table(rows, ("", "bits", "compression ratio"))


def _render_samples(folder: Path, metrics: Metrics) -> Iterator[str]:
    if (folder / "samples.png").is_file():
        temperatures = ", ".join(f"{temperature:g}" for temperature in metrics["temperatures"])
        yield render_heading("Samples at several temperatures")
        is_clip = len(metrics["shape"]) == 4
        rows = "One strip per sample and temperature" if is_clip else "One row per temperature"
        yield from _render_media_files(
            folder, "samples", f"{rows}, from top to bottom {temperatures}"
        )


def _render_codebook(folder: Path, metrics: Metrics) -> Iterator[str]:
    yield render_heading("Codebook")
    yield render_paragraph(f"Over all items: {metrics['advice']}.")
    codebooks = metrics["codebooks"]
    rows = {
        name.replace("_", " "): tuple(codebook[name] for codebook in codebooks)
        for name in CODEBOOK_KEYS
    }
    if len(codebooks) > 1:
        rows["mean usage"], rows["mean perplexity"] = metrics["usage"], metrics["perplexity"]
    yield render_table(rows)
    yield from _render_media_files(
        folder, "codebook", "Usage of the entries, and a projection of entries and z_e"
    )


def _render_media_files(folder: Path, name: str, title: str) -> Iterator[str]:
    video_title, audio_title = "The same as video, in rows", "The same as audio, column by column"
    for suffix, caption in ((".png", title), (".mp4", video_title), (".wav", audio_title)):
        file = (folder / name).with_suffix(suffix)
        if file.is_file():
            yield render_paragraph(f"{caption}:")
            yield render_media(file, caption)


def _format_mean(mean: Metrics, digits: int) -> str:
    """Format a mean and half the width of its interval.

    >>> _format_mean({"mean": 1234.56, "ci95": [1230.0, 1239.0]}, 1)
    '1,234.6 ± 4.5'
    """
    text = f"{mean['mean']:,.{digits}f}"
    low, high = mean["ci95"] or (0, 0)
    return f"{text} ± {(high - low) / 2:,.{digits}f}" if high > low else text


def _format_bits(compression: Metrics, bits_key: str, ratio_key: str) -> tuple[str, str]:
    ratio = compression[ratio_key]
    return f"{compression[bits_key]:,.0f}", "no bits" if ratio is None else f"{ratio:,.2f}"
