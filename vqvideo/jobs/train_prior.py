"""`vqvideo train-prior`: the second stage, over the codes of a trained VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.cond import CondSpec
from vqvideo.config import build_generator
from vqvideo.data.clips import cond_of
from vqvideo.data.code_windows import CodeWindows
from vqvideo.data.codes import open_codes
from vqvideo.generator import Generator
from vqvideo.jobs.encode import EncodeOptions, encode
from vqvideo.jobs.finish import finished
from vqvideo.jobs.model import open_model
from vqvideo.jobs.start import about_data, goes_on, keep_notices, keep_phones, start_prior
from vqvideo.jobs.train_vqvae import check_run_folder, windows
from vqvideo.training import TrainingConfig
from vqvideo.training import train_prior as fit

CODES = "codes"  # in the folder of a run


def train_prior(
    *,
    vqvae: str,
    data: str,
    out: str,
    config: TrainingConfig,
    prior: Mapping[str, Any] | str | None = None,
    num_frames: int | None = None,
    step: int | None = None,
    fps: float | None = None,
    init_from: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, float]:
    """Train a prior; returns the last held-out figures.

    Media files are encoded once, window by window, or whole where the windows have another length
    than the first stage was made for, as `vqvideo encode` does it; the code files stay in the run's
    folder, `codes/`.

    Args:
        vqvae: the run or checkpoint of a trained VQ-VAE, or a model that ships.
        data: a folder of media files, of code files, or of a run that has them.
        out: the run's folder; its model holds both stages.
        config: steps, batch size and so on.
        prior: another prior, or other options, than the model's config says.
        num_frames: frames or sound samples of a window, and so of what the model makes; None is
            what the first stage was made for.
        step: frames or sound samples between the starts of two windows; None puts them side by
            side.
        fps: frames per second of the clips; None keeps those of each file.
        init_from: a model from whose prior to start, over the codes of the same VQ-VAE: a run, one
            that ships, or one on the hub, see `open_model`. None starts from weights drawn at
            random.
        resume: go on with the run in `out` where it was stopped, if there is one; the rest must be
            what it was begun with.
        overwrite: train into a folder that holds a run already.
        progress: called with (windows encoded, windows in all).
        warn: called with a sentence about each file that cannot be read.
    """
    from accelerate import PartialState  # imports for a second

    check_run_folder(out, overwrite=overwrite, resume=resume)
    processes = PartialState()
    first_stage = open_model(vqvae)
    changed = first_stage.config.updated(**({} if prior is None else {"prior": prior}))
    if num_frames is not None:
        if changed.rank == 2:
            raise ValueError("num_frames is for video and sound; this model is of images")
        changed = changed.updated(sample_shape=(num_frames, *changed.sample_shape[1:]))
    torch.manual_seed(config.seed)
    generator = build_generator(changed)
    generator.vqvae = first_stage.vqvae
    begins = not goes_on(out, resume)
    if begins and init_from is not None:
        start_prior(generator, init_from)
    files = open_codes(data) or open_codes(Path(data) / CODES)
    if files and fps is not None:
        raise ValueError(f"fps is for media files; {data} holds codes")
    if files:
        files[0].check_fingerprint(generator.vqvae.fingerprint())
        if files[0].header.coder is not None:
            raise ValueError(f"{files[0].path} is compressed; train on codes that are only packed")
    else:
        _check_told(data, generator, step, fps)
        cut = step or (1 if changed.rank == 2 else changed.sample_shape[0])
        apart = cut if num_frames is None else None
        with processes.main_process_first():  # the others then find all of it done
            anew = overwrite and processes.is_main_process
            own = EncodeOptions(clip_step=apart, fps=fps, overwrite=anew)
            codes = str(Path(out) / CODES)
            encode(data, codes, model=vqvae, options=own, progress=progress, warn=warn)
        files = open_codes(Path(out) / CODES)
        step = None if num_frames is None else step
    grid = generator.vqvae.grid_shape(changed.sample_shape)
    if step is not None and changed.rank == 2:
        raise ValueError(
            f"{data} holds the codes of images, each by itself; leave the step out, or give it "
            f"when they are encoded"
        )
    codes_apart = _in_codes(step, generator.vqvae.downsampling[0])
    sets = [CodeWindows(files, grid, split=split, step=codes_apart) for split in ("train", "test")]
    _keep_names(generator, sets[0].names)
    if begins:
        keep_notices(out, [vqvae, init_from])
        keep_phones(out, vqvae)
    about = {"vqvae": vqvae, "init_from": init_from, **about_data(data, *sets)}
    told = replace(config, about=about)
    with finished(out):
        return fit(generator, sets[0], sets[1], out, told, resume=resume)


def _check_told(data: str, generator: Generator, step: int | None, fps: float | None) -> None:
    """Raise `ValueError` if the data lacks what the prior takes, before it is encoded."""
    assert generator.prior is not None
    cond_of(windows(data, generator.config, "train", step, fps=fps)[0], generator.prior.cond.takes)


def _in_codes(step: int | None, stride: int) -> int | None:
    if step is not None and step % stride:
        raise ValueError(
            f"a step of {step} is no whole number of codes, each of which stands for {stride}"
        )
    return None if step is None else step // stride


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
        for part, spec in (("prior", prior.cond), ("decoder", generator.vqvae.cond)):
            known = getattr(spec, entry)
            if known and list(known) != list(given):
                raise ValueError(
                    f"the {part} knows the {plural} {known}, the data has {tuple(given)}"
                )
        cond[entry] = tuple(given)
    if cond:
        prior.cond = CondSpec.of({**asdict(prior.cond), **cond})
        generator.config = config.updated(prior={"name": config.prior.name, "cond": cond})
