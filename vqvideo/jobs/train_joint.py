"""`vqvideo train-joint`: both stages at once, from a folder of files to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vqvideo.jobs.finish import finished
from vqvideo.jobs.start import about_data, built, config_of, goes_on, keep_notices
from vqvideo.jobs.train_vqvae import check_run_folder, told_of, windows
from vqvideo.training import TrainingConfig
from vqvideo.training import train_joint as fit


def train_joint(
    *,
    model: str,
    data: str,
    out: str,
    config: TrainingConfig,
    rate_weight: float = 1.0,
    changes: Mapping[str, Any] | None = None,
    step: int | None = None,
    fps: float | None = None,
    cache: str | None = None,
    resume: bool = False,
    tell: Sequence[str] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train a model's VQ-VAE and its prior together; returns the last held-out figures.

    Args:
        model: a registered name.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: the run's folder.
        config: steps, batch size and so on.
        rate_weight: of the prior's term for the encoder; see `vqvideo.training.train_joint`.
        changes: entries of the model's config to change.
        step: frames or sound samples between the starts of two windows; None puts them side by
            side.
        fps: frames per second of the clips, and so of the model; None keeps those of each file.
        cache: a folder for the decoded files; None decodes anew in every pass.
        tell: what the decoder is told of each file, see `train_vqvae`.
        resume: go on with the run in `out` where it was stopped, if there is one; the rest must be
            what it was begun with.
        overwrite: train into a folder that holds a run already.
        progress: called with (files measured, files to be measured).
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    begins = not goes_on(out, resume)
    found = config_of(model, None, None).updated(**{**rate, **(changes or {})})
    train, test = (
        windows(data, found, split, step, fps=fps, cache=cache, progress=progress)
        for split in ("train", "test")
    )
    generator = built(found.updated(cond=told_of(train, tell)), begins=begins)
    if begins:
        keep_notices(out, [])  # begun anew, it keeps none of a run before
    about = {"model": model, "rate_weight": rate_weight, **about_data(data, train, test)}
    told = replace(config, about=about)
    with finished(out, test):
        return fit(generator, train, test, out, told, rate_weight=rate_weight, resume=resume)
