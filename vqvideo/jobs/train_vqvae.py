"""`vqvideo train-vqvae`: the first stage, from a folder of files to a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vqvideo.checkpoint import check_free
from vqvideo.data.clips import ClipDataset
from vqvideo.generator import Generator
from vqvideo.models import build
from vqvideo.training import TrainingConfig
from vqvideo.training import train_vqvae as fit


def train_vqvae(
    *,
    model: str,
    data: str,
    out: str,
    config: TrainingConfig,
    changes: Mapping[str, Any] | None = None,
    step: int | None = None,
    fps: float | None = None,
    cache: str | None = None,
    max_corrupt: float = 0.01,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train the VQ-VAE of a model on a folder; returns the last held-out figures.

    Args:
        model: a registered name.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: the run's folder.
        config: steps, batch size and so on.
        changes: entries of the model's config to change.
        step: frames or sound samples between the starts of two windows; None puts them side
            by side.
        fps: frames per second of the clips, and so of the model; None keeps those of each file.
        cache: a folder for the decoded files; None decodes anew in every pass.
        max_corrupt: which share of the files may be unreadable and skipped.
        resume: go on with the run in `out` where it was stopped, if there is one; the rest must be
            what it was begun with.
        overwrite: train into a folder that holds a run already.
        progress: called with (files measured, files to be measured).
    """
    check_run_folder(out, overwrite or resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    generator = build(model, **{**rate, **(changes or {})})
    train, test = (
        windows(
            data,
            generator,
            split,
            step,
            fps=fps,
            cache=cache,
            max_corrupt=max_corrupt,
            progress=progress,
        )
        for split in ("train", "test")
    )
    return fit(generator, train, test, out, config, resume=resume)


def windows(
    data: str,
    generator: Generator,
    split: str,
    step: int | None,
    *,
    fps: float | None = None,
    cache: str | None = None,
    max_corrupt: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> ClipDataset:
    """The windows of a folder that fit a model; what is skipped is named on stderr."""
    config = generator.config
    clips = ClipDataset(
        data,
        config.sample_shape,
        split=split,
        step=step,
        fps=fps,
        sample_rate=int(config.rate) if config.rank == 1 else None,
        cache=cache,
        max_corrupt=max_corrupt,
        progress=progress,
    )
    if clips.skipped:
        print(f"unreadable files skipped ({split}): {len(clips.skipped)}", file=sys.stderr)
        for _, reason in clips.skipped:
            print(f"  {reason}", file=sys.stderr)
    return clips


def check_run_folder(out: str, overwrite: bool) -> None:
    """Raise `FileExistsError` when a run would be written over another."""
    if (Path(out) / "model").exists() and not overwrite:
        raise FileExistsError(f"{out} holds a run already; give another --out or --overwrite")
    check_free(Path(out) / "model", overwrite)
