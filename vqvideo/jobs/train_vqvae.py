"""`vqvideo train-vqvae`: the first stage, from a folder of files to a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.checkpoint import MODEL, check_free, recover
from vqvideo.config import GeneratorConfig
from vqvideo.data.clips import ClipDataset
from vqvideo.jobs.finish import finished
from vqvideo.jobs.model import number_as
from vqvideo.jobs.start import (
    about_data,
    built,
    config_of,
    goes_on,
    keep_notices,
    keep_phones,
    start_codes,
    start_vqvae,
)
from vqvideo.training import TrainingConfig, train_decoder
from vqvideo.training import train_vqvae as train_whole
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
    tell: Sequence[str] = (),
    init_from: str | None = None,
    codes_of: str | None = None,
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
        tell: what the decoder is told of each file, "speaker" or "class", so that the codes need
            not say it; the data must have it.
        init_from: from whose first stage to start: a run, a model that ships, or one on the hub,
            see `open_model`. It must fit. None starts from weights drawn at random.
        codes_of: whose encoder and codebook to take and to leave as they are, so that only a
            decoder for the same codes is trained; named as for `init_from`. They must fit.
        resume: go on with the run in `out` where it was stopped, if there is one; the rest must be
            what it was begun with.
        overwrite: train into a folder that holds a run already.
        progress: called with (files measured, files to be measured).
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    begins = not goes_on(out, resume)
    if init_from is not None and codes_of is not None:
        raise ValueError("--init-from trains all of a model on, --codes-of a decoder; give one")
    found = config_of(model, init_from or codes_of, out if not begins else None)
    found = found.updated(**{**rate, **(changes or {})})
    train, test = (
        windows(
            data,
            found,
            split,
            step,
            fps=fps,
            cache=cache,
            max_corrupt=max_corrupt,
            progress=progress,
        )
        for split in ("train", "test")
    )
    generator = built(found.updated(cond=told_of(train, tell)), begins=begins)
    for clips in (train, test):
        number_as(generator, clips)
    if begins and init_from is not None:
        start_vqvae(generator, init_from)
    if codes_of is not None:
        own = Path(out) / MODEL  # which a run that goes on has, once it has measured
        start_codes(generator, codes_of if begins or not own.is_dir() else str(own))
    if begins:
        keep_notices(out, [init_from, codes_of])
        if codes_of is not None:
            keep_phones(out, codes_of)
    sources = {"init_from": init_from, "codes_of": codes_of}
    about = {"model": model, **sources, **about_data(data, train, test)}
    fit = train_whole if codes_of is None else train_decoder
    with finished(out, test):
        return fit(generator, train, test, out, replace(config, about=about), resume=resume)


def windows(
    data: str,
    config: GeneratorConfig,
    split: str,
    step: int | None,
    *,
    fps: float | None = None,
    cache: str | None = None,
    max_corrupt: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> ClipDataset:
    """The windows of a folder that fit a model; what is skipped is named on stderr."""
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


def told_of(data: ClipDataset, tell: Sequence[str]) -> dict[str, Any]:
    """Entries of a `CondSpec`: as many speakers or classes as the data has, and their names.

    Raises:
        ValueError: the data does not say who speaks, or which class a file is of, or somebody has
            no file to train on.
    """
    cond: dict[str, Any] = {}
    for what, plural, names in (
        ("class", "classes", data.classes),
        ("speaker", "speakers", data.speakers),
    ):
        if what in tell and not names:
            raise ValueError(
                f"--tell {what} needs data that says it of every file; add {what!r} to its "
                f"metadata.jsonl"
            )
        if what in tell:
            told = "class_name" if what == "class" else what
            heard = {getattr(item, told) for item in data.items}
            if lacking := sorted(set(names) - heard):
                raise ValueError(
                    f"--tell {what}: of {', '.join(lacking)} there is no file to train on, so what "
                    f"is told of them would mean nothing; put their files into another folder"
                )
            cond |= {f"num_{plural}": len(names), f"{what}_names": tuple(names)}
    return cond


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
