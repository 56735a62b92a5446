"""`vqvideo train-vqvae`: the first stage, from a folder of files to a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.checkpoint import MODEL, check_free, recover
from vqvideo.data.clips import ClipDataset
from vqvideo.generator import Generator
from vqvideo.jobs.finish import finished
from vqvideo.jobs.start import about_data, built, config_of, goes_on, keep_notices, start_vqvae
from vqvideo.training import TrainingConfig
from vqvideo.training import train_vqvae as fit
from vqvideo.training.state import FILE


def train_vqvae(
    *,
    model: str | None = None,
    data: str,
    out: str,
    config: TrainingConfig,
    changes: Mapping[str, Any] | None = None,
    step: int | None = None,
    fps: float | None = None,
    cache: str | None = None,
    max_corrupt: float = 0.01,
    init_from: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train the VQ-VAE of a model on a folder; returns the last held-out figures.

    Args:
        model: a registered name; None trains the model of `init_from` on.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: the run's folder.
        config: steps, batch size and so on.
        changes: entries of the model's config to change.
        step: frames or sound samples between the starts of two windows; None puts them side
            by side.
        fps: frames per second of the clips, and so of the model; None keeps those of each file.
        cache: a folder for the decoded files; None decodes anew in every pass.
        max_corrupt: which share of the files may be unreadable and skipped.
        init_from: from whose first stage to start: a run, a model that ships, or one on the hub,
            see `open_model`. It must fit. None starts from weights drawn at random.
        resume: go on with the run in `out` where it was stopped, if there is one; the rest must be
            what it was begun with.
        overwrite: train into a folder that holds a run already.
        progress: called with (files measured, files to be measured).
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    begins = not goes_on(out, resume)
    found = config_of(model, init_from, out if not begins else None)
    generator = built(found.updated(**{**rate, **(changes or {})}), begins=begins)
    if begins and init_from is not None:
        start_vqvae(generator, init_from)
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
    if begins:
        keep_notices(out, [init_from])
    about = {"model": model, "init_from": init_from, **about_data(data, train, test)}
    with finished(out, test):
        return fit(generator, train, test, out, replace(config, about=about), resume=resume)


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
    expected = 1 if config.rank == 1 else 3
    if config.channels != expected:
        raise ValueError(
            f"files are read as {expected} channels ({'mono' if expected == 1 else 'RGB'}), this "
            f"model has channels={config.channels}; set channels={expected}"
        )
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


def check_run_folder(out: str, *, overwrite: bool, resume: bool) -> None:
    """Raise `FileExistsError` when a run would be written over another without being told to."""
    if overwrite and resume:
        raise ValueError(
            "--resume goes on with a run, --overwrite begins it anew; give one of them"
        )
    model, state = Path(out) / MODEL, Path(out) / FILE
    recover(model)
    if resume and model.exists() and not state.exists():
        raise FileExistsError(
            f"{out} has a model but no state to go on from; give another --out, perhaps with "
            f"--init-from {out}, or --overwrite"
        )
    if not resume and not overwrite and (model.exists() or state.exists()):
        raise FileExistsError(
            f"{out} holds a run already; --resume goes on with it, --overwrite begins it anew"
        )
    check_free(model, overwrite=True)
