"""`vqvideo doctor`: check the codebook of a model, and report how its prior samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vqvideo.commands.model import check_output_files, load_model
from vqvideo.commands.train_vqvae import build_clip_dataset
from vqvideo.report import CodebookReport, codebook_report
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.sampling import describe_auto_method


def diagnose_codebook(
    *,
    model: str,
    data: str,
    split: str = "test",
    clip_stride: int | None = None,
    out: str = "outputs/codebook.png",
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, CodebookReport, str]:
    """Report on the codebook of a model, and write a plot of it.

    Args:
        model: name of a shipped model, or the folder of a trained one.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        split: "train" or "test".
        clip_stride: frames or audio samples between the starts of two windows; None for adjacent
            windows.
        out: path of the plot, .png.
        device: see `load_model`.
        overwrite: replace an existing file.
        progress: called with (windows done, total windows).

    Returns:
        The plot, the report, and the method that draws single samples here (see
        `vqvideo.sampling.describe_auto_method`).

    Raises:
        ImportError: matplotlib is not installed; the message says how to install it.
    """
    target = Path(out)
    if target.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {out!r}")
    check_output_files(target, 1, overwrite)
    import_figure_class()  # fail before the pass if matplotlib is missing
    generator = load_model(model, device)
    report = codebook_report(
        generator, build_clip_dataset(data, generator.config, split, clip_stride), progress=progress
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    report.write_plot(target)
    return (
        target,
        report,
        describe_auto_method(generator.prior) if generator.prior else "no prior yet",
    )
