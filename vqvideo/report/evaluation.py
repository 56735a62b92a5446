"""The page of an evaluation: its figures, in words where they need them, and its pictures.

It is made from the files of the folder alone, so that it can be made again later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqvideo.report.elements import heading, picture, sentence, table, text, whole

FIGURES, PAGE = "evaluation.json", "evaluation.html"
PICTURES = (
    "reconstructions.png",
    "reconstructions.mp4",
    "reconstructions.wav",
    "samples.png",
    "samples.mp4",
    "samples.wav",
    "codebook.png",
)
TERMS = {  # of the bound, in the order of reading
    "reconstruction": "reconstruction, log p(x | z_q)",
    "prior": "codes under the prior, log p(z_q)",
    "bound": "bound: both together",
    "uniform": "codes under the uniform prior, -N ln K",
    "uniform_bound": "bound: reconstruction and uniform prior",
}
ABOUT = ("model", "data", "split", "num_windows", "likelihood", "prior")
ABOUT_CODEBOOK = ("usage", "perplexity", "num_dead", "codebook_size", "num_codes")
Figures = Mapping[str, Any]


def write_evaluation(folder: str | Path) -> Path:
    """Write `evaluation.html` of `evaluation.json` and the pictures beside it; returns the page."""
    folder = Path(folder)
    figures = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    parts = [*_summary(figures), *_unreadable(figures)]
    parts += [*_bound(figures), *_nearness(folder, figures)]
    parts += [*_compression(figures), *_samples(folder, figures), *_codebook(folder, figures)]
    parts += [heading("Command"), text(figures["command"])]
    parts += [heading("Versions and machine"), table(figures["setting"])]
    title = f"Evaluation of {Path(figures['model']).name}"
    (folder / PAGE).write_text(whole(title, parts), encoding="utf-8")
    return folder / PAGE


def _summary(figures: Figures) -> Iterator[str]:
    said = {name.replace("_", " "): figures[name] for name in ABOUT if figures[name] is not None}
    yield table({**said, "scored": f"{figures['num_items']:,} windows"})
    for note in figures["notes"]:
        yield sentence(note)


def _unreadable(figures: Figures) -> Iterator[str]:
    if figures["unreadable_files"]:
        yield heading("Files that could not be read")
        number = figures["num_unreadable_windows"]
        yield sentence(
            f"{number:,} of the windows to be scored could not be decoded and are left out of "
            f"every figure; files that could not even be measured give none at all."
        )
        yield table({each["file"]: each["reason"] for each in figures["unreadable_files"]})


def _bound(figures: Figures) -> Iterator[str]:
    means, has_bits = figures["means"], figures["gives_bits"]
    yield heading("The bound on log p(x)")
    rows = {}
    for name, title in TERMS.items():
        if f"{name}_nats" in means:
            bits = (_shown(means[f"{name}_bits_per_dim"], 4),) if has_bits else ()
            rows[title] = (_shown(means[f"{name}_nats"], 1), *bits)
    head = ("mean per item", "nats", *(("bits per dimension",) if has_bits else ()))
    yield table(rows, head)
    cost = "; bits per dimension are what it costs, the fewer the better" if has_bits else ""
    yield sentence(f"Nats are log-probabilities, the more the better{cost}.")
    if figures["num_items"] > 1:
        yield sentence(f"Behind ±: the {figures['interval']}.")


def _nearness(folder: Path, figures: Figures) -> Iterator[str]:
    means = figures["means"]
    yield heading("Reconstructions")
    error = f"PSNR of the mean squared error over {means['psnr_db']['num_items']:,} items, dB"
    rows = {
        error: f"{figures['psnr_db_of_mean_squared_error']:.2f}",
        "mean of the items' PSNR, dB": _shown(means["psnr_db"], 2),
    }
    if "ssim" in means:
        rows["mean SSIM"] = _shown(means["ssim"], 4)
    if "mel_distance" in means:
        rows["mean multi-scale mel distance, 1 is 8.7 dB"] = _shown(means["mel_distance"], 3)
    yield table(rows)
    above = "Originals above what their codes keep of them"
    yield from _pictures(folder, "reconstructions", above)


def _compression(figures: Figures) -> Iterator[str]:
    found = figures["compression"]
    codes = " x ".join(map(str, figures["codes"]))
    yield heading("Compression")
    rows = {
        f"an item, {found['bits_per_value']:g} bits a value": (f"{found['data_bits']:,.0f}", ""),
        f"{codes} codes of {figures['codebook_size']}": _bits(found, "code_bits", "ratio"),
    }
    if "prior_ratio" in found:
        rows["the same under the prior"] = _bits(found, "prior_code_bits", "prior_ratio")
    yield table(rows, ("", "bits", "times fewer"))


def _samples(folder: Path, figures: Figures) -> Iterator[str]:
    if (folder / "samples.png").is_file():
        each = ", ".join(f"{temperature:g}" for temperature in figures["temperatures"])
        yield heading("Samples at several temperatures")
        is_clip = len(figures["shape"]) == 4
        rows = (
            "Each sample a strip for each temperature" if is_clip else "A row for each temperature"
        )
        yield from _pictures(folder, "samples", f"{rows}, from above {each}")


def _codebook(folder: Path, figures: Figures) -> Iterator[str]:
    yield heading("Codebook")
    yield sentence(f"Over all items: {figures['advice']}.")
    each = figures["codebooks"]
    rows = {
        name.replace("_", " "): tuple(codebook[name] for codebook in each)
        for name in ABOUT_CODEBOOK
    }
    if len(each) > 1:
        rows["mean usage"], rows["mean perplexity"] = figures["usage"], figures["perplexity"]
    yield table(rows)
    yield from _pictures(folder, "codebook", "How often entries are used, and where they lie")


def _pictures(folder: Path, name: str, title: str) -> Iterator[str]:
    moving, heard = "The same, moving, in rows", "The same, to be heard, column by column"
    for suffix, words in ((".png", title), (".mp4", moving), (".wav", heard)):
        file = (folder / name).with_suffix(suffix)
        if file.is_file():
            yield sentence(f"{words}:")
            yield picture(file, words)


def _shown(mean: Figures, digits: int) -> str:
    """A mean and half its interval.

    >>> _shown({"mean": 1234.56, "ci95": [1230.0, 1239.0]}, 1)
    '1,234.6 ± 4.5'
    """
    shown = f"{mean['mean']:,.{digits}f}"
    low, high = mean["ci95"] or (0, 0)
    return f"{shown} ± {(high - low) / 2:,.{digits}f}" if high > low else shown


def _bits(found: Figures, bits: str, ratio: str) -> tuple[str, str]:
    times = found[ratio]
    return f"{found[bits]:,.0f}", "none at all" if times is None else f"{times:,.2f}"
