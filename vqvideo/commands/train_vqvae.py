"""`vqvideo train-vqvae`: train the first stage on a folder of files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.atomic import recover
from vqvideo.checkpoint import MODEL_DIR, check_overwrite
from vqvideo.commands.finalize import finalize_run
from vqvideo.commands.initialize import (
    build_for_training,
    describe_data,
    init_vqvae,
    is_resuming,
    load_tokenizer,
    prepare_run_folder,
    resolve_config,
)
from vqvideo.commands.model import apply_label_map
from vqvideo.config import GeneratorConfig
from vqvideo.data.clips import ClipDataset
from vqvideo.generator import Generator
from vqvideo.training import TrainingConfig, train_decoder
from vqvideo.training import train_vqvae as train_whole
from vqvideo.training.run_folder import check_owned
from vqvideo.training.state import STATE_NAME


def train_vqvae(
    *,
    model: str | None = None,
    data: str,
    out: str,
    config: TrainingConfig,
    overrides: Mapping[str, Any] | None = None,
    clip_stride: int | None = None,
    fps: float | None = None,
    cache_dir: str | None = None,
    max_corrupt: float = 0.01,
    condition_on: Sequence[str] = (),
    init_from: str | None = None,
    tokenizer: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train the VQ-VAE of a model on a folder; return the last held-out metrics.

    Args:
        model: a registered name; None continues with the model of `init_from`.
        data: a folder of files of the model's rank, with or without `metadata.jsonl`.
        out: folder of the run.
        config: options of training: steps, batch size and so on.
        overrides: entries of the model's config to change.
        clip_stride: frames or audio samples between the starts of two windows; None for adjacent
            windows.
        fps: frame rate of the clips, and so of the model; None keeps the rate of each file.
        cache_dir: folder that caches decoded files; None decodes again in every epoch.
        max_corrupt: largest fraction of unreadable files that are skipped without an error.
        condition_on: conditions of the decoder, "speaker" or "class", so that the codes need not
            carry them; the data must have these labels.
        init_from: a model from whose first stage to start: a run, a shipped model, or one on the
            hub, see `load_model`. Its weights must match. None for random weights.
        tokenizer: a model whose encoder and codebook are copied and frozen, so that only a decoder
            for its codes is trained; given as for `init_from`. Its weights must match.
        resume: resume the run in `out` if there is one; the other arguments must not change.
        overwrite: replace an existing run.
        progress: called with (files measured, total files to measure).
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    torch.manual_seed(config.seed)
    rate = {} if fps is None else {"rate": fps}
    is_new = not is_resuming(out, resume)
    if init_from is not None and tokenizer is not None:
        raise ValueError(
            "--init-from trains the whole model, --tokenizer only a decoder; give only one"
        )
    model_config = resolve_config(model, init_from or tokenizer, out if not is_new else None)
    model_config = model_config.merge(**{**rate, **(overrides or {})})
    generator, train, test = build_model_and_data(
        model_config,
        data,
        condition_on,
        is_new=is_new,
        clip_stride=clip_stride,
        fps=fps,
        cache_dir=cache_dir,
        max_corrupt=max_corrupt,
        progress=progress,
    )
    for clips in (train, test):
        apply_label_map(generator, clips)
    if is_new and init_from is not None:
        init_vqvae(generator, init_from)
    if tokenizer is not None:
        saved = Path(out) / MODEL_DIR  # exists in a resumed run after its first evaluation
        load_tokenizer(generator, tokenizer if is_new or not saved.is_dir() else str(saved))
    if is_new:
        prepare_run_folder(out, [init_from, tokenizer], tokenizer=tokenizer, overwrite=overwrite)
    sources = {"init_from": init_from, "tokenizer": tokenizer}
    metadata = {"model": model, **sources, **describe_data(data, train, test)}
    fit = train_whole if tokenizer is None else train_decoder
    with finalize_run(out, test):
        return fit(generator, train, test, out, replace(config, metadata=metadata), resume=resume)


def build_model_and_data(
    config: GeneratorConfig,
    data: str,
    condition_on: Sequence[str],
    *,
    is_new: bool,
    clip_stride: int | None,
    **options: Any,
) -> tuple[Generator, ClipDataset, ClipDataset]:
    """Build a model for the labels of the data, and the data for training and validation.

    Args:
        config: config of the model.
        data: a folder of media files.
        condition_on: see `build_cond_options`.
        is_new: see `build_for_training`.
        clip_stride: see `build_clip_dataset`, which also takes all other options.
    """
    train, test = (
        build_clip_dataset(data, config, split, clip_stride, **options)
        for split in ("train", "test")
    )
    config = config.merge(cond=build_cond_options(train, condition_on))
    return build_for_training(config, is_new=is_new), train, test


def build_clip_dataset(
    data: str,
    config: GeneratorConfig,
    split: str,
    clip_stride: int | None,
    *,
    fps: float | None = None,
    cache_dir: str | None = None,
    max_corrupt: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> ClipDataset:
    """Build the dataset of windows for a model from a folder; list skipped files on stderr."""
    channels = 1 if config.rank == 1 else 3
    if config.channels != channels:
        raise ValueError(
            f"files are read as {channels} channels ({'mono' if channels == 1 else 'RGB'}), this "
            f"model has channels={config.channels}; set channels={channels}"
        )
    clips = ClipDataset(
        data,
        config.sample_shape,
        split=split,
        clip_stride=clip_stride,
        fps=fps,
        sample_rate=int(config.rate) if config.rank == 1 else None,
        cache_dir=cache_dir,
        max_corrupt=max_corrupt,
        progress=progress,
    )
    if clips.skipped:
        print(f"unreadable files skipped ({split}): {len(clips.skipped)}", file=sys.stderr)
        for _, reason in clips.skipped:
            print(f"  {reason}", file=sys.stderr)
    return clips


def build_cond_options(data: ClipDataset, condition_on: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a `CondSpec` for the labels of the data: their numbers and names.

    Raises:
        ValueError: the data does not label its files by speaker or class, or a label has no
            training file.
    """
    cond: dict[str, Any] = {}
    for label, plural, names in (
        ("class", "classes", data.classes),
        ("speaker", "speakers", data.speakers),
    ):
        if label in condition_on and not names:
            raise ValueError(
                f"--condition-on {label} needs a {label} for every file; add {label!r} to the "
                f"metadata.jsonl of the data"
            )
        if label in condition_on:
            attribute = "class_name" if label == "class" else label
            labels = {getattr(item, attribute) for item in data.items}
            if missing := sorted(set(names) - labels):
                raise ValueError(
                    f"--condition-on {label}: no training file for {', '.join(missing)}, so their "
                    f"embeddings would stay untrained; move their files to another folder"
                )
            cond |= {f"num_{plural}": len(names), f"{label}_names": tuple(names)}
    return cond


def check_run_folder(out: str, *, overwrite: bool, resume: bool) -> None:
    """Raise `FileExistsError` if `out` has a run that is neither resumed nor overwritten.

    The same for files that a run would replace and that no run wrote.
    """
    if overwrite and resume:
        raise ValueError(
            "--resume continues a run, --overwrite starts it over; give only one of them"
        )
    model, state = Path(out) / MODEL_DIR, Path(out) / STATE_NAME
    recover(model)
    if resume and model.exists() and not state.exists():
        raise FileExistsError(
            f"{out} has a model but no training state to resume from; give another --out, perhaps "
            f"with --init-from {out}, or --overwrite"
        )
    if not resume and not overwrite and (model.exists() or state.exists()):
        raise FileExistsError(
            f"{out} already has a run; --resume continues it, --overwrite starts it over"
        )
    check_overwrite(model, overwrite=True)
    if not overwrite:
        check_owned(Path(out))
