"""`vqvideo generate`: imagine a clip, an image or a sound, or continue a real clip."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.generator import Generator
from vqvideo.grid import codes_needed
from vqvideo.jobs.model import evenly, open_model, output_files
from vqvideo.sampling import SamplingOptions, method_for, single_samples

DEFAULT_OUT = {1: "outputs/sound.wav", 2: "outputs/image.png", 3: "outputs/clip.mp4"}
SUFFIXES = {1: (".wav", ".flac"), 2: (".png", ".jpg", ".jpeg"), 3: (".mp4", ".gif")}
MOST_FPS = {".mp4": 240, ".gif": 50}  # a GIF counts hundredths of a second; players want two


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


def generate_clip(
    *,
    model: str = "video",
    out: str | None = None,
    num_samples: int = 1,
    num_frames: int | None = None,
    fps: float | None = None,
    prefix: Prefix | None = None,
    device: str = "auto",
    overwrite: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> list[Path]:
    """Generate, write, and return the files written: the samples, then what goes with them.

    Args:
        model: a model that ships or the folder of a trained one.
        out: .mp4 or .gif for video, .png for images, .wav or .flac for sound; None is
            `outputs/clip.mp4` or its like. Beside it come a contact sheet (.png, video only, at
            most 32 frames) and a .json with everything needed to make it again.
        num_samples: several are numbered from 1.
        num_frames: of the clip in all, the prefix included; rounded up to whole code frames for
            sampling, then cropped. None takes what the model was made for.
        fps: of the file; None is the prefix's own rate, else the model's.
        prefix: a real clip to continue.
        device: see `open_model`.
        overwrite: replace files that exist.
        sampling: temperature, top_k, top_p, seed, method, progress; see
            `vqvideo.sampling.generate`.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before any work is done.
    """
    started = time.monotonic()
    for name, value in (("num_samples", num_samples), ("num_frames", num_frames)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    generator = open_model(model, device)
    rank = generator.vqvae.rank
    target = Path(out or DEFAULT_OUT[rank])
    if fps is not None and rank != 3:
        raise ValueError("fps is for video")
    own = media.probe(prefix.file).fps if prefix else generator.config.rate
    rate = own if fps is None else fps
    _check_file(target, rank, rate)
    beside = (".png", ".json") if rank == 3 else (".json",)
    files = output_files(target, num_samples, overwrite, *beside)
    if prefix is None:
        data, source = _imagine(generator, num_samples, num_frames, sampling), None
    else:
        data, source = _continue(generator, num_samples, num_frames, prefix, sampling)
    written = _write(files, target, data.cpu(), rate, overwrite)
    drawn = {name: value for name, value in sampling.items() if name != "progress"}
    method = _method(generator, num_samples, sampling)
    record = {
        "model": model,
        **drawn,
        "method": method,
        "num_samples": num_samples,
        "shape": list(data.shape[1:]),
        "rate": rate,
        "prefix": source,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": _versions(),
        "step": single_samples(generator.prior)
        if generator.prior and method == "fused"
        else method,
        "device": str(data.device),
        "seconds": round(time.monotonic() - started, 2),
    }
    report = target.with_suffix(".json")
    report.write_text(json.dumps(record, indent=2) + "\n")
    return [*written, report]


def _check_file(target: Path, rank: int, rate: float) -> None:
    if target.suffix not in SUFFIXES[rank]:
        raise ValueError(
            f"--out must end in {' or '.join(SUFFIXES[rank])} for this model, got {str(target)!r}"
        )
    if rank == 3 and not 0 < rate <= MOST_FPS[target.suffix]:
        raise ValueError(
            f"fps must lie above 0 and up to {MOST_FPS[target.suffix]} for a {target.suffix} "
            f"file, got {rate:g}"
        )


def _method(generator: Generator, num_samples: int, sampling: SamplingOptions) -> str:
    """What "auto" came down to."""
    method = sampling.get("method", "auto")
    if method != "auto" or generator.prior is None:
        return method
    return method_for(
        generator.prior,
        batch=num_samples,
        top_k=sampling.get("top_k"),
        top_p=sampling.get("top_p"),
        guidance=sampling.get("guidance"),
    )


def _imagine(
    generator: Generator, num_samples: int, num_frames: int | None, options: SamplingOptions
) -> Tensor:
    length, *rest = generator.sample_shape or ()
    wanted = length if num_frames is None else num_frames
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
    options: SamplingOptions,
) -> tuple[Tensor, dict[str, Any]]:
    if generator.vqvae.rank != 3:
        raise ValueError("only a video model can continue a clip")
    length, height, width = generator.sample_shape or (0, 0, 0)
    stride = generator.vqvae.downsampling[0]
    total = num_frames or max(length, prefix.num_frames + stride)
    generator.vqvae.grid_shape((prefix.num_frames, height, width))
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
    target.parent.mkdir(parents=True, exist_ok=True)
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
    media.write_contact_sheet(sheet, evenly(data), overwrite=overwrite)
    return [*files, sheet]


def _versions() -> dict[str, str]:
    from vqvideo import __version__

    return {
        "vqvideo": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
