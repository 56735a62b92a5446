"""`vqvideo evaluate`: likelihood, reconstruction quality and compression on held-out data."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from vqvideo.arguments import check_seed
from vqvideo.atomic import replace_files
from vqvideo.commands.evaluate_metrics import compute_metrics
from vqvideo.commands.evaluate_rows import (
    MetricsRow,
    compute_reconstruction_metrics,
    get_batch_cond,
    score_items,
)
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import apply_label_map, check_output_files, load_model
from vqvideo.commands.process_pool import build_progress_callback
from vqvideo.commands.train_vqvae import build_clip_dataset
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.data.items import evenly_spaced
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.metrics import build_ssim
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.report.environment import collect_environment
from vqvideo.report.evaluation_page import (
    MEDIA_NAMES,
    METRICS_NAME,
    PAGE_NAME,
    write_evaluation_page,
)
from vqvideo.sampling import SamplingParams
from vqvideo.training.previews import write_audio_previews, write_video_previews

OUTPUT_FILES = (METRICS_NAME, PAGE_NAME, *MEDIA_NAMES)
MAX_SHOWN_ITEMS = {1: 8, 2: 8, 3: 4}  # items in the images, by rank; rows of clips are tall
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
    """Score a model on data, write a report, and return the files written and the metrics.

    The metrics are the terms of the bound of section 3.2 under the learnt and the uniform prior,
    PSNR, SSIM, compression and codebook usage; docs/evaluation.md defines each.

    Args:
        model: name of a shipped model, or the folder of a trained one, with or without a prior.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: the output folder. It gets `evaluation.json` (all metrics, per item too),
            `evaluation.html` (one page with everything), `reconstructions.png` (originals above
            their reconstructions), `samples.png` (one row per temperature; not written without a
            prior) and `codebook.png`; also videos of clips (.mp4) and audio (.wav).
        split: "train" or "test".
        max_items: score at most this many windows, evenly spread; None scores all.
        temperatures: temperatures of the samples, which have the conditions of the items above
            them; empty for no samples.
        batch_size: windows per batch.
        seed: seed of the samples.
        max_corrupt: largest fraction of unreadable files that are skipped without an error.
        device: see `load_model`.
        overwrite: replace the files of an earlier evaluation.
        progress: called with (items and samples done, total).

    Raises:
        ImportError: matplotlib or torchmetrics is missing (extra `report`).
        FileExistsError, ValueError: the arguments are invalid; raised before any work is done.
        FloatingPointError: a metric of an item is NaN or infinite.
        MediaError: too many files cannot be read, or none of the windows.
    """
    started, folder = time.monotonic(), Path(out)
    _check_options(folder, overwrite, temperatures, batch_size=batch_size, max_items=max_items)
    check_seed(seed)
    generator = load_model(model, device)
    rank = generator.vqvae.rank
    if rank > 1:
        build_ssim()  # fail before the pass if torchmetrics is missing
    clips = build_clip_dataset(data, generator.config, split, None, max_corrupt=max_corrupt)
    apply_label_map(generator, clips)
    indices = evenly_spaced(range(len(clips)), max_items, from_start=True)
    num_shown = min(len(indices), MAX_SHOWN_ITEMS[rank])
    sample_temperatures = temperatures if generator.prior else ()
    num_samples = num_shown * len(sample_temperatures)
    advance = build_progress_callback(progress, 0, len(indices) + num_samples)

    rows, readable_indices, codebook_report = score_items(
        generator, clips, indices, batch_size=batch_size, advance=advance
    )
    shown = evenly_spaced(range(len(rows)), num_shown, from_start=True)
    shown_items = default_collate([clips.read(readable_indices[row]) for row in shown])
    media_items = {
        "reconstructions": _reconstruct_items(generator, shown_items, [rows[row] for row in shown]),
        "samples": _sample_items(generator, shown_items, sample_temperatures, seed, advance),
    }
    metrics = {
        "model": model,
        "data": data,
        "split": split,
        **_count_windows(clips, len(indices) - len(rows)),
        "temperatures": list(sample_temperatures),
        "seed": seed,
        **compute_metrics(generator, rows, codebook_report),
        "seconds": round(time.monotonic() - started, 2),
        "command": get_command_line(),
        "environment": collect_environment(),
    }
    with replace_files(folder, OUTPUT_FILES, overwrite=overwrite) as temporary:
        _write_media(temporary, media_items, rank, generator.config.rate)
        codebook_report.write_plot(temporary / "codebook.png")
        table = json.dumps({**metrics, "items": rows}, indent=1, allow_nan=False)
        (temporary / METRICS_NAME).write_text(table + "\n", encoding="utf-8")
        write_evaluation_page(temporary)
    return [folder / name for name in OUTPUT_FILES if (folder / name).is_file()], metrics


def _count_windows(clips: ClipDataset, num_unreadable: int) -> dict[str, Any]:
    """Return the number of windows of the data, and what of it could not be read."""
    return {
        "num_windows": len(clips),
        "num_unreadable_windows": num_unreadable,
        "unreadable_files": [
            {"file": os.fspath(path), "reason": reason} for path, reason in clips.skipped
        ],
    }


def _write_media(
    folder: Path, media_items: dict[str, list[Tensor]], rank: int, rate: float
) -> None:
    """Write the rows of items of each name as images, and as video or audio."""
    write_previews = write_audio_previews if rank == 1 else write_video_previews
    for name, tensors in media_items.items():
        if tensors:
            write_previews(folder, name, tensors, rate)


def _check_options(
    folder: Path,
    overwrite: bool,
    temperatures: Sequence[float],
    **counts: int | None,
) -> None:
    """Raise on invalid options, existing outputs or missing libraries, before any work."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for temperature in temperatures:
        SamplingParams(temperature=temperature)
    for name in OUTPUT_FILES:
        check_output_files(folder / name, 1, overwrite)
    import_figure_class()


def _reconstruct_items(generator: Generator, items: Sample, rows: list[MetricsRow]) -> list[Tensor]:
    """Return originals and reconstructions; add metrics that the pass skipped to `rows`."""
    vqvae = generator.vqvae
    x = items["x"].to(get_device(vqvae))
    reconstructed = vqvae.decode(
        vqvae.encode(x), generator.select_decoder_cond(get_batch_cond(generator, items))
    )
    if vqvae.likelihood.is_autoregressive:
        for row, metrics in zip(
            rows,
            compute_reconstruction_metrics(x, reconstructed, int(generator.config.rate)),
            strict=True,
        ):
            row.update(metrics)
    return [x, reconstructed]


def _sample_items(
    generator: Generator,
    items: Sample,
    temperatures: Sequence[float],
    seed: int,
    advance: Callable[[int], None],
) -> list[Tensor]:
    """Draw one sample per item at each temperature, with the conditions of the item."""
    samples, num_samples = [], len(items["x"])
    for temperature in temperatures:
        cond = get_batch_cond(generator, items)
        samples.append(
            generator.sample(num_samples=num_samples, cond=cond, temperature=temperature, seed=seed)
        )
        advance(num_samples)
    return samples
