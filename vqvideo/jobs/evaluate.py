"""`vqvideo evaluate`: how probable a model finds held-out data, how near it comes, how small."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from vqvideo.data.clips import Sample
from vqvideo.generator import Generator
from vqvideo.jobs.evaluate_figures import figures_of
from vqvideo.jobs.evaluate_pass import Row, nearness, score_items, told
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.folder import folder_of_whole_files
from vqvideo.jobs.model import number_as, open_model, output_files
from vqvideo.jobs.train_vqvae import windows
from vqvideo.metrics import ssim_measure
from vqvideo.report.evaluation import FIGURES, PAGE, PICTURES, write_evaluation
from vqvideo.report.machine import setting
from vqvideo.report.picture import matplotlib_figure
from vqvideo.sampling import Sampling
from vqvideo.training.pictures import show_rows, show_sounds

FILES = (FIGURES, PAGE, *PICTURES)
SHOWN = {1: 8, 2: 8, 3: 4}  # items in pictures, by rank; strips of clips are tall
TEMPERATURES = (0.6, 0.8, 1.0)


def evaluate(
    *,
    model: str,
    data: str,
    out: str = "outputs/evaluation",
    split: str = "test",
    max_items: int | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    batch_size: int = 8,
    seed: int = 0,
    max_corrupt: float = 0.01,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Score data, and draw what there is to see; returns the files written and the figures.

    The terms of the bound of section 3.2 under the learnt and the uniform prior, PSNR, SSIM,
    compression and use of the codebook: docs/evaluation.md says what each means.

    Args:
        model: a model that ships or the folder of a trained one, with or without a prior.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: a folder. It gets `evaluation.json` (all figures, those of single items too),
            `evaluation.html` (one page with everything), `reconstructions.png` (originals above
            their reconstructions), `samples.png` (a row for each temperature; nothing without a
            prior) and `codebook.png`; films of clips (.mp4), sounds to hear (.wav).
        split: "train" or "test".
        max_items: score at most so many windows, evenly spread over all; None scores all.
        temperatures: at which samples are drawn, told what the items above them are told; none
            draws none.
        batch_size: windows at a time.
        seed: of the samples.
        max_corrupt: which share of the files may be unreadable and left out.
        device: see `open_model`.
        overwrite: replace the files of an earlier evaluation.
        progress: called with (items and samples done, in all).

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, ValueError: before any work is done.
        FloatingPointError: a figure of an item is NaN or infinite.
        MediaError: too many files cannot be read, or all that were to be scored.
    """
    started, folder = time.monotonic(), Path(out)
    _check(folder, overwrite, temperatures, batch_size=batch_size, max_items=max_items)
    generator = open_model(model, device)
    rank = generator.vqvae.rank
    if rank > 1:
        ssim_measure()  # missing, it is better known before the pass than after
    clips = windows(data, generator.config, split, None, max_corrupt=max_corrupt)
    number_as(generator, clips)
    indices = _spread(len(clips), max_items or len(clips))
    most = min(len(indices), SHOWN[rank])
    drawn = temperatures if generator.prior else ()
    advance = _advance(len(indices) + most * len(drawn), progress)

    rows, kept, codebooks = score_items(
        generator, clips, indices, batch_size=batch_size, advance=advance
    )
    shown = _spread(len(rows), most)
    some = default_collate([clips.read(kept[place]) for place in shown])
    pictures = {
        "reconstructions": _reconstructed(generator, some, [rows[place] for place in shown]),
        "samples": _sampled(generator, some, drawn, seed, advance),
    }
    figures = {
        "model": model,
        "data": data,
        "split": split,
        "num_windows": len(clips),
        "num_unreadable_windows": len(indices) - len(rows),
        "unreadable_files": [
            {"file": os.fspath(path), "reason": reason} for path, reason in clips.skipped
        ],
        "temperatures": list(drawn),
        "seed": seed,
        **figures_of(generator, rows, codebooks),
        "seconds": round(time.monotonic() - started, 2),
        "command": command_line(),
        "setting": setting(),
    }
    show = show_sounds if rank == 1 else show_rows
    with folder_of_whole_files(folder, FILES) as unfinished:
        for name, of_rows in pictures.items():
            if of_rows:
                show(unfinished, name, of_rows, generator.config.rate)
        codebooks.write_picture(unfinished / "codebook.png")
        table = json.dumps({**figures, "items": rows}, indent=1, allow_nan=False)
        (unfinished / FIGURES).write_text(table + "\n", encoding="utf-8")
        write_evaluation(unfinished)
    return [folder / name for name in FILES if (folder / name).is_file()], figures


def _check(
    folder: Path,
    overwrite: bool,
    temperatures: Sequence[float],
    **numbers: int | None,
) -> None:
    """Refuse what cannot be done, before any work."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for temperature in temperatures:
        Sampling(temperature=temperature)
    for name in FILES:
        output_files(folder / name, 1, overwrite)
    matplotlib_figure()


def _spread(length: int, most: int) -> list[int]:
    """At most `most` of the numbers below `length`, evenly spread.

    >>> _spread(10, 4)
    [0, 2, 5, 7]
    """
    number = min(length, most)
    return [i * length // number for i in range(number)]


def _reconstructed(generator: Generator, items: Sample, rows: list[Row]) -> list[Tensor]:
    """Originals and reconstructions; what the pass left out is put into their rows."""
    vqvae = generator.vqvae
    x = items["x"].to(next(vqvae.parameters()).device)
    again = vqvae.decode(vqvae.encode(x), generator.for_decoder(told(generator, items)))
    if vqvae.likelihood.is_autoregressive:
        for row, near in zip(rows, nearness(x, again, int(generator.config.rate)), strict=True):
            row.update(near)
    return [x, again]


def _sampled(
    generator: Generator,
    items: Sample,
    temperatures: Sequence[float],
    seed: int,
    advance: Callable[[int], None],
) -> list[Tensor]:
    """Samples at each temperature, as many as there are items, each told what the item is told."""
    found, number = [], len(items["x"])
    for temperature in temperatures:
        cond = told(generator, items)
        found.append(
            generator.sample(num_samples=number, cond=cond, temperature=temperature, seed=seed)
        )
        advance(number)
    return found


def _advance(in_all: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """What takes how many more are done, and tells `progress` how many that makes."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, in_all)

    return advance
