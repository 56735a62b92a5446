"""`vqvideo generate`: imagine a clip, an image or a sound, or continue a real clip."""

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
from vqvideo.generator import Generator
from vqvideo.grid import codes_needed
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.model import check_video_file, evenly, open_model, output_files
from vqvideo.jobs.prefix import Prefix
from vqvideo.jobs.told import example_of, told, what_is_done
from vqvideo.sampling import SamplingOptions, method_for, single_samples
from vqvideo.spectra import spectrogram

DEFAULT_OUT = {1: "outputs/sound.wav", 2: "outputs/image.png", 3: "outputs/clip.mp4"}
SUFFIXES = {1: (".wav", ".flac"), 2: (".png", ".jpg", ".jpeg")}
SHOWN_SECONDS = 6  # of sound, at most


def generate_clip(
    *,
    model: str = "maze",
    out: str | None = None,
    num_samples: int = 1,
    num_frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    prefix: Prefix | None = None,
    speaker: str | None = None,
    class_name: str | None = None,
    actions: str | None = None,
    decoder_temperature: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> list[Path]:
    """Generate, write, and return the files written: the samples, then what goes with them.

    Args:
        model: a model that ships or the folder of a trained one.
        out: .mp4 or .gif for video, .png for images, .wav or .flac for sound; None is
            `outputs/clip.mp4` or its like. Beside it come a contact sheet (.png, of video at most
            32 frames, of sound the spectrograms) and a .json with everything needed to make it
            again.
        num_samples: several are numbered from 1.
        num_frames: of the clip in all, or samples of the sound, the prefix included; rounded up to
            whole code frames for sampling, then cropped. None takes what the model was made for;
            of one that is told actions, as many as there are.
        seconds: the same in seconds at the model's rate; one of the two at most.
        fps: of the file; None is the prefix's own rate, else the model's.
        prefix: a real clip, or sound, to continue. A model that is told actions goes on from the
            recording that ships beside its weights, where nothing else is given.
        speaker, class_name: what prior and decoder are told, by the names that they know.
        actions: what is done, one for each frame that is imagined, see `spelled`; None goes on as
            the recording does that is continued.
        decoder_temperature: of a decoder that draws, such as a WaveNet; see `DecodingOptions`.
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
    if seconds is not None:
        num_frames = _frames_in(seconds, generator.config.rate, num_frames)
    if fps is not None and rank != 3:
        raise ValueError("fps is for video")
    done = None
    if generator.prior is not None and generator.prior.cond.takes_actions:
        prefix = prefix or (None if actions else example_of(model))
        done = what_is_done(generator, prefix, actions, num_frames)
        num_frames = done.num_frames
    elif actions is not None:
        raise ValueError(f"{model} is told no actions; leave out --actions")
    own = media.probe(prefix.file).fps if prefix and rank == 3 else generator.config.rate
    rate = own if fps is None else fps
    if rank == 3:
        check_video_file(target, rate)
    elif target.suffix not in SUFFIXES[rank]:
        raise ValueError(f"--out must end in {' or '.join(SUFFIXES[rank])}, got {str(target)!r}")
    beside = (".json",) if rank == 2 else (".png", ".json")
    files = output_files(target, num_samples, overwrite, *beside)
    if prefix is not None and any(Path(prefix.file).resolve() == file.resolve() for file in files):
        raise ValueError(f"{prefix.file} is what is continued; write to another --out")
    each = None if done is None else done.actions
    options: Any = {
        "cond": told(generator, num_samples, speaker=speaker, class_name=class_name, actions=each),
        "decoder_temperature": decoder_temperature,
        **sampling,
    }
    if prefix is None:
        data, source = _imagine(generator, num_samples, num_frames, options), None
    else:
        data, source = _continue(generator, num_samples, num_frames, prefix, options)
    written = _write(files, target, data.cpu(), rate, overwrite)
    record = {
        "model": model,
        **{name: value for name, value in sampling.items() if name != "progress"},
        "num_samples": num_samples,
        "shape": list(data.shape[1:]),
        "rate": rate,
        "prefix": source,
        "speaker": speaker,
        "class": class_name,
        **({} if done is None else done.record),
        "decoder_temperature": decoder_temperature,
        **_how(generator, num_samples, sampling),
        "seconds": round(time.monotonic() - started, 2),
    }
    report = target.with_suffix(".json")
    report.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    return [*written, report]


def _frames_in(seconds: float, rate: float, num_frames: int | None) -> int:
    if num_frames is not None:
        raise ValueError("num_frames and seconds both say how long it is to be; give one")
    if not rate:
        raise ValueError("this model makes images; seconds are for video and sound")
    if not (math.isfinite(seconds) and seconds * rate >= 1):
        raise ValueError(f"seconds must be at least 1/{rate:g}, got {seconds}")
    return round(seconds * rate)


def _how(generator: Generator, num_samples: int, sampling: SamplingOptions) -> dict[str, Any]:
    """How codes were drawn, what "auto" came down to, and by what."""
    from vqvideo.version import __version__

    method, prior = sampling.get("method", "auto"), generator.prior
    if method == "auto" and prior is not None:
        method = method_for(
            prior,
            batch=num_samples,
            top_k=sampling.get("top_k"),
            top_p=sampling.get("top_p"),
            guidance=sampling.get("guidance"),
        )
    return {
        "method": method,
        "step": single_samples(prior) if prior and method == "fused" else method,
        "device": str(next(generator.parameters()).device),
        "command": command_line(),
        "versions": {
            "vqvideo": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _imagine(
    generator: Generator,
    num_samples: int,
    num_frames: int | None,
    options: dict[str, Any],
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
    options: dict[str, Any],
) -> tuple[Tensor, dict[str, Any]]:
    kept = prefix.length(generator)
    own = (generator.sample_shape or (0,))[0]  # of sound, as much again follows
    total = num_frames or (kept + own if generator.vqvae.rank == 1 else max(own, kept + 1))
    if total <= kept:
        raise ValueError(f"num_frames is {total} in all, so nothing follows a prefix of {kept}")
    first, source = prefix.read(generator)
    frames = first.expand(num_samples, *first.shape).to(next(generator.parameters()).device)
    clip = generator.continue_clip(frames, total - kept, **options)
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
    if rank == 2:
        return files
    sheet = target.with_suffix(".png")
    media.write_contact_sheet(sheet, _shown(data, rate), overwrite=overwrite)
    return [*files, sheet]


def _shown(data: Tensor, rate: float) -> Tensor:
    """Pictures of what moves or sounds, `[n, 3, m, h, w]`."""
    if data.ndim > 3:
        return evenly(data)
    return spectrogram(data[:, 0, : SHOWN_SECONDS * int(rate)].float(), int(rate))[:, :, None]
