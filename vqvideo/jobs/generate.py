"""`vqvideo generate`: imagine a clip, an image or a sound, or continue a real clip."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.generator import Generator
from vqvideo.grid import codes_needed
from vqvideo.jobs.model import open_model, output_files
from vqvideo.sampling import Method

DEFAULT_OUT = {1: "outputs/sound.wav", 2: "outputs/image.png", 3: "outputs/clip.mp4"}


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A real clip to continue: its first frames, brought to the size of the model.

    Attributes:
        file: a video.
        num_frames: how many of its frames to keep; a multiple of the model's temporal stride.
        fit: "crop" cuts, "pad" adds borders, "refuse" raises when the sizes differ.
    """

    file: str
    num_frames: int = 8
    fit: Literal["crop", "pad", "refuse"] = "crop"


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How samples are drawn; see `vqvideo.sampling.generate`."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    method: Method = "auto"


def generate_clip(
    *,
    model: str = "video",
    out: str | None = None,
    num_samples: int = 1,
    num_frames: int | None = None,
    fps: float | None = None,
    prefix: Prefix | None = None,
    sampler: Sampler | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Generate, write, and return the files written: the samples, then what goes with them.

    Args:
        model: a model that ships or the folder of a trained one.
        out: .mp4 or .gif for video, .png for images, .wav or .flac for sound; None is
            `outputs/clip.mp4` or its like. Beside it come a contact sheet (.png, video only)
            and a .json with everything needed to make it again.
        num_samples: several are numbered from 1.
        num_frames: of the clip in all, the prefix included; rounded up to whole code frames for
            sampling, then cropped. None takes what the model was made for.
        fps: of the file; None is the prefix's own rate, else the model's.
        prefix: a real clip to continue.
        sampler: temperature, seed and so on.
        device: see `open_model`.
        overwrite: replace files that exist.
        progress: called with (codes done, codes in all).

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before any work is done.
    """
    started = time.monotonic()
    sampler = sampler or Sampler()
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    generator = open_model(model, device)
    target = Path(out or DEFAULT_OUT[generator.vqvae.rank])
    beside = (".png", ".json") if generator.vqvae.rank == 3 else (".json",)
    files = output_files(target, num_samples, overwrite, *beside)
    options = {**vars(sampler), "progress": progress}
    if prefix is None:
        data, source = _imagine(generator, num_samples, num_frames, options), None
    else:
        data, source = _continue(generator, num_samples, num_frames, prefix, options)
    rate = fps or (source["fps"] if source else generator.config.rate)
    written = _write(files, target, data.cpu(), rate, overwrite)
    record = {
        "model": model,
        **vars(sampler),
        "method": "cached" if sampler.method == "auto" else sampler.method,
        "num_samples": num_samples,
        "shape": list(data.shape[1:]),
        "rate": rate,
        "prefix": source,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": _versions(),
        "device": str(data.device),
        "seconds": round(time.monotonic() - started, 2),
    }
    report = target.with_suffix(".json")
    report.write_text(json.dumps(record, indent=2) + "\n")
    return [*written, report]


def _imagine(
    generator: Generator, num_samples: int, num_frames: int | None, options: dict[str, Any]
) -> Tensor:
    length, *rest = generator.sample_shape or ()
    wanted = length if num_frames is None else num_frames
    if wanted < 1:
        raise ValueError(f"num_frames must be at least 1, got {wanted}")
    if generator.vqvae.rank == 2 and num_frames is not None:
        raise ValueError("this model makes images; num_frames is for video and sound")
    stride = generator.vqvae.downsampling[0]
    shape = (codes_needed(wanted, stride) * stride, *rest)
    data = generator.sample(num_samples=num_samples, shape=shape, **options)
    return data[:, :, :wanted]


def _continue(
    generator: Generator,
    num_samples: int,
    num_frames: int | None,
    prefix: Prefix,
    options: dict[str, Any],
) -> tuple[Tensor, dict[str, Any]]:
    if generator.vqvae.rank != 3:
        raise ValueError("only a video model can continue a clip")
    length, height, width = generator.sample_shape or (0, 0, 0)
    total = num_frames or max(length, prefix.num_frames + generator.vqvae.downsampling[0])
    info = media.probe(prefix.file)
    if info.num_frames < prefix.num_frames:
        raise ValueError(
            f"{prefix.file} has {info.num_frames} frames; {prefix.num_frames} were asked for as "
            f"the prefix"
        )
    if total <= prefix.num_frames:
        raise ValueError(
            f"num_frames is {total} in all, so nothing follows a prefix of {prefix.num_frames}"
        )
    first = media.read_video(
        prefix.file, range(prefix.num_frames), size=(height, width), fit=prefix.fit
    )
    frames = first.frames.expand(num_samples, -1, -1, -1, -1)
    frames = frames.to(next(generator.parameters()).device)
    clip = generator.continue_clip(frames, total - prefix.num_frames, **options)
    source = {**vars(prefix), "size": [info.height, info.width], "fps": first.fps}
    return clip, source


def _write(
    files: list[Path], target: Path, data: Tensor, rate: float, overwrite: bool
) -> list[Path]:
    rank = data.ndim - 2
    for file, sample in zip(files, data, strict=True):
        if rank == 1:
            media.write_audio(file, sample, int(rate), overwrite=overwrite)
        elif rank == 2:
            media.write_image(file, sample, overwrite=overwrite)
        elif file.suffix == ".gif":
            media.write_gif(file, sample, rate, overwrite=overwrite)
        else:
            media.write_video(file, sample, rate, overwrite=overwrite)
    if rank != 3:
        return files
    sheet = target.with_suffix(".png")
    media.write_contact_sheet(sheet, data, overwrite=overwrite)
    return [*files, sheet]


def _versions() -> dict[str, str]:
    from vqvideo import __version__

    return {
        "vqvideo": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
