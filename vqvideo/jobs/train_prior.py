"""`vqvideo train-prior`: the second stage, over the codes of a trained VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vqvideo.cond import CondSpec
from vqvideo.config import build_generator
from vqvideo.data.clips import cond_of
from vqvideo.data.codes import CodeSet
from vqvideo.generator import Generator
from vqvideo.jobs.model import open_model
from vqvideo.jobs.train_vqvae import check_run_folder, windows
from vqvideo.training import TrainingConfig, encode_dataset
from vqvideo.training import train_prior as fit


def train_prior(
    *,
    vqvae: str,
    data: str,
    out: str,
    config: TrainingConfig,
    prior: Mapping[str, Any] | str | None = None,
    step: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train a prior; returns the last held-out figures.

    The folder is encoded once; the codes stay in the run's folder (`codes_train.safetensors`,
    `codes_test.safetensors`) and a folder of a run that has them can be given as `data`.

    Args:
        vqvae: the run or checkpoint of a trained VQ-VAE, or a model that ships.
        data: a folder of files, or one with code files.
        out: the run's folder; its model holds both stages.
        config: steps, batch size and so on.
        prior: another prior, or other options, than the model's config says.
        step: see `train_vqvae`.
        overwrite: train into a folder that holds a run already.
        progress: called with (windows encoded, windows in all).
    """
    check_run_folder(out, overwrite)
    _check_codes(data, step)
    first_stage = open_model(vqvae)
    changed = first_stage.config.updated(**({} if prior is None else {"prior": prior}))
    torch.manual_seed(config.seed)
    generator = build_generator(changed)
    generator.vqvae = first_stage.vqvae
    sets = [_codes(generator, data, split, step, progress) for split in ("train", "test")]
    _keep_names(generator, sets[0].names)
    Path(out).mkdir(parents=True, exist_ok=True)
    for split, codes in zip(("train", "test"), sets, strict=True):
        codes.save(_file(out, split))
    return fit(generator, sets[0], sets[1], out, config)


def _keep_names(generator: Generator, names: Mapping[str, list[str]]) -> None:
    """Let the prior know what the numbers stand for that it learns from."""
    prior, config = generator.prior, generator.config
    assert prior is not None
    cond = dict(config.prior.options.get("cond") or {})
    for told, plural in (("class_id", "classes"), ("speaker", "speakers")):
        given, size = names.get(told), f"num_{plural}"
        entry = "class_names" if told == "class_id" else "speaker_names"
        number = getattr(prior.cond, size)
        if not given or not number:
            continue
        if len(given) != number:
            raise ValueError(
                f"the prior takes {number} {plural}, the data has {len(given)}: "
                f"{', '.join(given)}; set {size}={len(given)}"
            )
        known = getattr(prior.cond, entry)
        if known and list(known) != list(given):
            raise ValueError(f"the prior knows the {plural} {known}, the data has {tuple(given)}")
        cond[entry] = tuple(given)
    if cond:
        prior.cond = CondSpec.of({**asdict(prior.cond), **cond})
        generator.config = config.updated(prior={"name": config.prior.name, "cond": cond})


def _check_codes(data: str, step: int | None) -> None:
    """Codes are there for both splits or for none, and clips of codes have no step."""
    found = [split for split in ("train", "test") if _file(data, split).is_file()]
    if len(found) == 1:
        raise ValueError(f"{data} has codes of the split {found[0]!r} only; encode both anew")
    if found and step is not None:
        raise ValueError(f"a step is for media files; {data} holds codes")


def _file(folder: str, split: str) -> Path:
    return Path(folder) / f"codes_{split}.safetensors"


def _codes(
    generator: Generator,
    data: str,
    split: str,
    step: int | None,
    progress: Callable[[int, int], None] | None,
) -> CodeSet:
    stored = _file(data, split)
    if stored.is_file():
        codes = CodeSet.load(stored)
        if codes.fingerprint != generator.vqvae.fingerprint():
            raise ValueError(
                f"{stored} holds codes of another first stage; give the media files, or the run "
                f"of train-vqvae that the codes were made with"
            )
        return codes
    clips = windows(data, generator, split, step)
    assert generator.prior is not None
    cond_of(clips[0], generator.prior.cond)  # what the data lacks is better known before encoding
    return encode_dataset(generator.vqvae, clips, progress)
