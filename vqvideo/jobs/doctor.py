"""`vqvideo doctor`: whether the codebook of a model is healthy, and how its prior will draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vqvideo.jobs.model import open_model, output_files
from vqvideo.jobs.train_vqvae import windows
from vqvideo.report import CodebookReport, codebook_report
from vqvideo.report.picture import matplotlib_figure
from vqvideo.sampling import single_samples


def doctor(
    *,
    model: str,
    data: str,
    split: str = "test",
    step: int | None = None,
    out: str = "outputs/codebook.png",
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, CodebookReport, str]:
    """Report on the codebook of a model; returns the picture written, the report, and how single
    samples are drawn here (see `vqvideo.sampling.single_samples`).

    Args:
        model: a model that ships or the folder of a trained one.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        split: "train" or "test".
        step: frames or sound samples between the starts of two windows; None puts them side
            by side.
        out: the picture, .png.
        device: see `open_model`.
        overwrite: replace a file that exists.
        progress: called with (windows done, windows in all).

    Raises:
        ImportError: matplotlib is not installed; the message says how to.
    """
    target = Path(out)
    if target.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {out!r}")
    output_files(target, 1, overwrite)
    matplotlib_figure()  # missing, it is better known before the pass than after
    generator = open_model(model, device)
    report = codebook_report(
        generator, windows(data, generator.config, split, step), progress=progress
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    report.write_picture(target)
    return target, report, single_samples(generator.prior) if generator.prior else "no prior yet"
