"""`vqvideo train-vqvae`: the first stage, from a folder of files to a run."""

from __future__ import annotations

from collections.abc import Mapping
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
    overwrite: bool = False,
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
        overwrite: train into a folder that holds a run already.
    """
    check_run_folder(out, overwrite)
    torch.manual_seed(config.seed)
    generator = build(model, **(changes or {}))
    return fit(
        generator,
        windows(data, generator, "train", step),
        windows(data, generator, "test", step),
        out,
        config,
    )


def windows(data: str, generator: Generator, split: str, step: int | None) -> ClipDataset:
    """The windows of a folder that fit a model."""
    config = generator.config
    return ClipDataset(
        data,
        config.sample_shape,
        split=split,
        step=step,
        sample_rate=int(config.rate) if config.rank == 1 else None,
    )


def check_run_folder(out: str, overwrite: bool) -> None:
    """Raise `FileExistsError` when a run would be written over another."""
    if (Path(out) / "model").exists() and not overwrite:
        raise FileExistsError(f"{out} holds a run already; give another --out or --overwrite")
    check_free(Path(out) / "model", overwrite)
