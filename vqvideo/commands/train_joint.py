"""`vqvideo train-joint`: train both stages together on a folder of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vqvideo.commands.finalize import finalize_run
from vqvideo.commands.initialize import (
    describe_data,
    is_resuming,
    prepare_run_folder,
    resolve_config,
)
from vqvideo.commands.train_vqvae import build_model_and_data, check_run_folder
from vqvideo.training import TrainingConfig
from vqvideo.training import train_joint as fit


def train_joint(
    *,
    model: str,
    data: str,
    out: str,
    config: TrainingConfig,
    rate_weight: float = 1.0,
    overrides: Mapping[str, Any] | None = None,
    clip_stride: int | None = None,
    fps: float | None = None,
    cache_dir: str | None = None,
    resume: bool = False,
    condition_on: Sequence[str] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train a model's VQ-VAE and its prior together; return the last held-out metrics.

    Args:
        model: a registered name.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: folder of the run.
        config: options of training: steps, batch size and so on.
        rate_weight: weight of the prior's term for the encoder; see
            `vqvideo.training.train_joint`.
        overrides: entries of the model's config to change.
        clip_stride: frames or audio samples between the starts of two windows; None for adjacent
            windows.
        fps: frame rate of the clips, and so of the model; None keeps the rate of each file.
        cache_dir: folder that caches decoded files; None decodes again in every epoch.
        resume: resume the run in `out` if there is one; the other arguments must not change.
        condition_on: conditions of the decoder, see `train_vqvae`.
        overwrite: replace an existing run.
        progress: called with (files measured, total files to measure).
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    is_new = not is_resuming(out, resume)
    model_config = resolve_config(model, None, None).merge(**{**rate, **(overrides or {})})
    generator, train, test = build_model_and_data(
        model_config,
        data,
        condition_on,
        is_new=is_new,
        clip_stride=clip_stride,
        fps=fps,
        cache_dir=cache_dir,
        progress=progress,
    )
    if is_new:
        prepare_run_folder(out, [], overwrite=overwrite)
    metadata = {"model": model, "rate_weight": rate_weight, **describe_data(data, train, test)}
    training_config = replace(config, metadata=metadata)
    with finalize_run(out, test):
        return fit(
            generator, train, test, out, training_config, rate_weight=rate_weight, resume=resume
        )
