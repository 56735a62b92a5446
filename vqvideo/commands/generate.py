"""`vqvideo generate`: sample a video, an image or audio, or continue a real clip."""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.atomic import write_text
from vqvideo.commands.conditions import (
    NO_CONDITIONS,
    ClipConditions,
    ConditionOptions,
    resolve_conditions,
)
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import (
    check_output_files,
    check_video_file,
    load_model,
    subsample_frames,
)
from vqvideo.commands.prefix import Prefix
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.grid import ceil_div
from vqvideo.sampling import GenerateOptions, describe_auto_method, select_method
from vqvideo.spectra import render_spectrogram

DEFAULT_OUT = {1: "outputs/sound.wav", 2: "outputs/image.png", 3: "outputs/clip.mp4"}
SUFFIXES = {1: (".wav", ".flac"), 2: (".png", ".jpg", ".jpeg")}
MAX_SHOWN_SECONDS = 6  # of audio in the spectrogram


def generate_clip(
    *,
    model: str,
    out: str | None = None,
    num_samples: int = 1,
    num_frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    prefix: Prefix | None = None,
    conditions: ConditionOptions = NO_CONDITIONS,
    decoder_temperature: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    **sampling: Unpack[GenerateOptions],
) -> list[Path]:
    """Generate samples, write them, and return the files: the samples, then the files about them.

    Args:
        model: name of a shipped model, or the folder of a trained one.
        out: .mp4 or .gif for video, .png for images, .wav or .flac for audio; None for
            `outputs/clip.mp4` or its counterpart. A contact sheet (.png: up to 32 frames of a
            video, spectrograms of audio) and a .json file with everything needed to reproduce the
            samples are written next to it.
        num_samples: number of samples; several files are numbered from 1.
        num_frames: total number of video frames or audio samples, prefix included; rounded up to
            whole code frames for sampling, then cropped. None for the length of the model, or for
            as many frames as there are actions.
        seconds: total length in seconds at the model's rate, in place of `num_frames`.
        fps: frame rate of the file; None for the rate of the prefix, else of the model.
        prefix: a real clip to continue, video or audio. An action model continues the recording
            that ships with its weights if neither a prefix nor actions are given.
        conditions: conditions of prior and decoder.
        decoder_temperature: temperature of an autoregressive decoder, such as a WaveNet; see
            `DecodingOptions`.
        device: see `load_model`.
        overwrite: replace existing files.
        sampling: temperature, top_k, top_p, seed, method, progress; see
            `vqvideo.sampling.generate`.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: the arguments are invalid; raised before any
            work is done.
    """
    started = time.monotonic()
    for name, value in (("num_samples", num_samples), ("num_frames", num_frames)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    generator = load_model(model, device)
    if seconds is not None:
        num_frames = _convert_seconds(seconds, generator.config.rate, num_frames)
    clip = resolve_conditions(
        generator, model, conditions, num_samples=num_samples, num_frames=num_frames, prefix=prefix
    )
    target = Path(out or DEFAULT_OUT[generator.vqvae.rank])
    rate = _choose_rate(generator, clip.prefix, fps)
    files = _check_target(target, generator, rate, num_samples, overwrite)
    if clip.prefix is not None and Path(clip.prefix.file).resolve() in map(Path.resolve, files):
        raise ValueError(f"{clip.prefix.file} is the prefix; write to another --out")
    options: Any = {"cond": clip.cond, "decoder_temperature": decoder_temperature, **sampling}
    generate = _sample_clips if clip.prefix is None else _continue_clip
    data, prefix_record = generate(generator, num_samples, clip, options)
    written = _write_samples(files, target, data.cpu(), rate, overwrite)
    record = {
        "model": model,
        "num_samples": num_samples,
        "shape": list(data.shape[1:]),
        "rate": rate,
        "prefix": prefix_record,
        **clip.record,
        "decoder_temperature": decoder_temperature,
        **_describe_sampling(generator, num_samples, sampling),
        "seconds": round(time.monotonic() - started, 2),
    }
    report = target.with_suffix(".json")
    write_text(report, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return [*written, report]


def _choose_rate(generator: Generator, prefix: Prefix | None, fps: float | None) -> float:
    """Return the rate of the files: `fps`, else that of a video prefix, else of the model."""
    is_video = generator.vqvae.rank == 3
    if fps is not None and not is_video:
        raise ValueError("fps is for video")
    if fps is not None:
        return fps
    return media.probe(prefix.file).fps if prefix and is_video else float(generator.config.rate)


def _check_target(
    target: Path, generator: Generator, rate: float, num_samples: int, overwrite: bool
) -> list[Path]:
    """Return the files of the samples; raise the errors of `check_output_files` and of suffixes."""
    rank = generator.vqvae.rank
    if rank == 3:
        check_video_file(target, rate)
    elif target.suffix not in SUFFIXES[rank]:
        raise ValueError(f"--out must end in {' or '.join(SUFFIXES[rank])}, got {str(target)!r}")
    extra_suffixes = (".json",) if rank == 2 else (".png", ".json")
    return check_output_files(target, num_samples, overwrite, *extra_suffixes)


def _convert_seconds(seconds: float, rate: float, num_frames: int | None) -> int:
    """Convert a length in seconds to frames or audio samples."""
    if num_frames is not None:
        raise ValueError("num_frames and seconds both set the length; give only one")
    if not rate:
        raise ValueError("this model generates images; seconds is for video and audio")
    if not (math.isfinite(seconds) and seconds * rate >= 1):
        raise ValueError(f"seconds must be at least 1/{rate:g}, got {seconds}")
    return round(seconds * rate)


def _describe_sampling(
    generator: Generator, num_samples: int, sampling: GenerateOptions
) -> dict[str, Any]:
    """Return the entries of the record on sampling: options, method, device, command, versions."""
    from vqvideo.version import __version__

    method, prior = sampling.get("method", "auto"), generator.prior
    if method == "auto" and prior is not None:
        method = select_method(
            prior,
            batch=num_samples,
            top_k=sampling.get("top_k"),
            top_p=sampling.get("top_p"),
            guidance_scale=sampling.get("guidance_scale"),
        )
    return {
        **{name: value for name, value in sampling.items() if name != "progress"},
        "method": method,
        "step": describe_auto_method(prior) if prior and method == "fused" else method,
        "device": str(get_device(generator)),
        "command": get_command_line(),
        "versions": {
            "vqvideo": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _sample_clips(
    generator: Generator, num_samples: int, clip: ClipConditions, options: dict[str, Any]
) -> tuple[Tensor, None]:
    """Sample clips without a prefix, cropped to the requested length."""
    length, *rest = generator.sample_shape or ()
    target_length = clip.num_frames or length
    if generator.vqvae.rank == 2 and clip.num_frames is not None:
        raise ValueError("this model generates images; num_frames is for video and audio")
    stride = generator.vqvae.downsampling[0]
    shape = (ceil_div(target_length, stride) * stride, *rest)
    data = generator.sample(num_samples=num_samples, shape=shape, **options)
    return data[:, :, :target_length], None


def _continue_clip(
    generator: Generator, num_samples: int, clip: ClipConditions, options: dict[str, Any]
) -> tuple[Tensor, dict[str, Any]]:
    """Continue a prefix; return the clips and the record of the prefix."""
    prefix = clip.prefix
    assert prefix is not None
    num_prefix_frames = prefix.get_length(generator)
    default_length = (generator.sample_shape or (0,))[0]  # audio: default length after the prefix
    total = clip.num_frames or (
        num_prefix_frames + default_length
        if generator.vqvae.rank == 1
        else max(default_length, num_prefix_frames + 1)
    )
    if total <= num_prefix_frames:
        raise ValueError(
            f"num_frames is {total} in total, so nothing follows a prefix of {num_prefix_frames}"
        )
    prefix_frames, record = prefix.read(generator)
    frames = prefix_frames.expand(num_samples, *prefix_frames.shape).to(get_device(generator))
    return generator.continue_clip(frames, total - num_prefix_frames, **options), record


def _write_samples(
    files: list[Path], target: Path, data: Tensor, rate: float, overwrite: bool
) -> list[Path]:
    """Write samples and, for video and audio, a contact sheet; return the files."""
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
    if rank == 2:
        return files
    sheet = target.with_suffix(".png")
    media.write_contact_sheet(sheet, _render_sheet(data, rate), overwrite=overwrite)
    return [*files, sheet]


def _render_sheet(data: Tensor, rate: float) -> Tensor:
    """Return images of videos or audio for a contact sheet, `[n, 3, m, h, w]`."""
    if data.ndim > 3:
        return subsample_frames(data)
    return render_spectrogram(data[:, 0, : MAX_SHOWN_SECONDS * int(rate)].float(), int(rate))[
        :, :, None
    ]
