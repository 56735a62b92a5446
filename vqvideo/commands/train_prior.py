"""`vqvideo train-prior`: train the second stage, a prior over the codes of a trained VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.commands.encode import encode
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.finalize import finalize_run
from vqvideo.commands.initialize import (
    describe_data,
    init_prior,
    is_resuming,
    prepare_run_folder,
)
from vqvideo.commands.model import load_model
from vqvideo.commands.train_vqvae import build_clip_dataset, check_run_folder
from vqvideo.cond import CondSpec
from vqvideo.config import build_generator
from vqvideo.data.clips import cond_from_batch
from vqvideo.data.code_dataset import CodeDataset
from vqvideo.data.codes import CodeFile, open_codes
from vqvideo.distributed import join_processes
from vqvideo.generator import Generator
from vqvideo.training import TrainingConfig
from vqvideo.training import train_prior as fit

CODES_FOLDER = "codes"  # within the folder of a run


def train_prior(
    *,
    vqvae: str,
    data: str,
    out: str,
    config: TrainingConfig,
    prior: Mapping[str, Any] | str | None = None,
    num_frames: int | None = None,
    clip_stride: int | None = None,
    fps: float | None = None,
    init_from: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, float]:
    """Train a prior; return the last held-out metrics.

    Media files are encoded once, as `vqvideo encode` does it: window by window, or as whole files
    if `num_frames` is given. The code files stay in the run's folder, in `codes/`.

    Args:
        vqvae: the run or checkpoint of a trained VQ-VAE, or the name of a shipped model.
        data: a folder of media files, of code files, or of a run that has code files.
        out: folder of the run; its model has both stages.
        config: options of training: steps, batch size and so on.
        prior: name of the prior, or options that override the model's config.
        num_frames: frames or audio samples per window, and so of generated samples; None for the
            length of the first stage.
        clip_stride: frames or audio samples between the starts of two windows; None for adjacent
            windows.
        fps: frame rate of the clips; None keeps the rate of each file.
        init_from: a model from whose prior to start, over the codes of the same VQ-VAE: a run, a
            shipped model, or one on the hub, see `load_model`. None for random weights.
        resume: resume the run in `out` if there is one; the other arguments must not change.
        overwrite: replace an existing run.
        progress: called with (windows encoded, total windows).
        warn: called with a message about each file that cannot be read.
    """
    check_run_folder(out, overwrite=overwrite, resume=resume)
    process_state = join_processes()
    generator = _build_generator(load_model(vqvae), prior, num_frames, config.seed)
    is_new = not is_resuming(out, resume)
    if is_new and init_from is not None:
        init_prior(generator, init_from)
    files = open_codes(data) or open_codes(Path(data) / CODES_FOLDER)
    if files:
        _check_code_files(files, generator, data, fps)
    else:
        _check_conditions(data, generator, clip_stride, fps)
        shape = generator.config.sample_shape
        window_stride = clip_stride or (1 if generator.config.rank == 2 else shape[0])
        with process_state.main_process_first():  # the others then find the codes complete
            encode_options = EncodeOptions(
                clip_stride=window_stride if num_frames is None else None,
                fps=fps,
                overwrite=overwrite and process_state.is_main_process,
            )
            folder = str(Path(out) / CODES_FOLDER)
            encode(data, folder, model=vqvae, options=encode_options, progress=progress, warn=warn)
        files = open_codes(folder)
        clip_stride = None if num_frames is None else clip_stride
    datasets = _build_datasets(files, generator, clip_stride, data)
    _set_label_names(generator, datasets[0].label_names)
    if is_new:
        prepare_run_folder(out, [vqvae, init_from], tokenizer=vqvae, overwrite=overwrite)
    metadata = {"vqvae": vqvae, "init_from": init_from, **describe_data(data, *datasets)}
    training_config = replace(config, metadata=metadata)
    with finalize_run(out):
        return fit(generator, datasets[0], datasets[1], out, training_config, resume=resume)


def _build_generator(
    first_stage: Generator, prior: Mapping[str, Any] | str | None, num_frames: int | None, seed: int
) -> Generator:
    """Build the model to train: the first stage as it is, and a prior with random weights."""
    config = first_stage.config.merge(**({} if prior is None else {"prior": prior}))
    if num_frames is not None:
        if config.rank == 2:
            raise ValueError("num_frames is for video and audio; this model is for images")
        config = config.merge(sample_shape=(num_frames, *config.sample_shape[1:]))
    torch.manual_seed(seed)
    generator = build_generator(config)
    generator.vqvae = first_stage.vqvae
    return generator


def _check_code_files(
    files: Sequence[CodeFile], generator: Generator, data: str, fps: float | None
) -> None:
    """Raise `ValueError` unless a prior can be trained on code files that exist already."""
    if fps is not None:
        raise ValueError(f"fps is for media files; {data} has codes")
    files[0].check_fingerprint(*generator.vqvae.compatible_fingerprints())
    if files[0].header.coder is not None:
        raise ValueError(
            f"{files[0].path} is compressed; encode the data without --compress to train on it"
        )


def _build_datasets(
    files: Sequence[CodeFile], generator: Generator, clip_stride: int | None, data: str
) -> list[CodeDataset]:
    """Return the windows of codes for training and for validation."""
    config, stride = generator.config, generator.vqvae.downsampling[0]
    if clip_stride is not None and config.rank == 2:
        raise ValueError(
            f"{data} has codes of single images, so clip_stride does not apply; leave it out, or "
            f"give it when encoding"
        )
    if clip_stride is not None and clip_stride % stride:
        raise ValueError(
            f"clip_stride must be a multiple of {stride}, the data steps per code; got "
            f"{clip_stride}"
        )
    code_stride = None if clip_stride is None else clip_stride // stride
    grid = generator.vqvae.compute_grid_shape(config.sample_shape)
    return [
        CodeDataset(files, grid, split=split, clip_stride=code_stride)
        for split in ("train", "test")
    ]


def _check_conditions(
    data: str, generator: Generator, clip_stride: int | None, fps: float | None
) -> None:
    """Raise `ValueError` before encoding if the data lacks a condition of the prior."""
    assert generator.prior is not None
    cond_from_batch(
        build_clip_dataset(data, generator.config, "train", clip_stride, fps=fps)[0],
        generator.prior.cond.keys,
    )


def _set_label_names(generator: Generator, names: Mapping[str, list[str]]) -> None:
    """Store the class and speaker names of the data in the prior's conditions and in the config."""
    prior, config = generator.prior, generator.config
    assert prior is not None
    cond = dict(config.prior.options.get("cond") or {})
    for condition, plural in (("class_id", "classes"), ("speaker", "speakers")):
        data_names, size_key = names.get(condition), f"num_{plural}"
        names_key = "class_names" if condition == "class_id" else "speaker_names"
        num_labels = getattr(prior.cond, size_key)
        if not data_names or not num_labels:
            continue
        if len(data_names) != num_labels:
            raise ValueError(
                f"the prior is built for {num_labels} {plural}, the data has {len(data_names)}: "
                f"{', '.join(data_names)}; set {size_key}={len(data_names)}"
            )
        for owner, spec in (("prior", prior.cond), ("decoder", generator.vqvae.cond)):
            known_names = getattr(spec, names_key)
            if known_names and list(known_names) != list(data_names):
                raise ValueError(
                    f"the {owner} knows the {plural} {known_names}, the data has "
                    f"{tuple(data_names)}"
                )
        cond[names_key] = tuple(data_names)
    if cond:
        prior.cond = CondSpec.from_config({**asdict(prior.cond), **cond})
        generator.config = config.merge(prior={"name": config.prior.name, "cond": cond})
