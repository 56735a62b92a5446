"""Sound: mono samples in and out of files.

Channels are averaged, so that mono stays what it is and nothing clips. 16-bit WAV and FLAC
come back exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike, input_file, open_container, output_file
from vqvideo.media.pixels import check_values

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream

_CODECS: dict[str, Literal["pcm_s16le", "flac"]] = {".wav": "pcm_s16le", ".flac": "flac"}
_STEPS = 32768  # of 16-bit sound, from 0 to 1


class Sound(NamedTuple):
    """Mono sound.

    Attributes:
        samples: float32 `[1, t]` in [-1, 1].
        sample_rate: in Hz.
    """

    samples: Tensor
    sample_rate: int


def read_audio(path: PathLike, *, sample_rate: int | None = None) -> Sound:
    """Read the first sound stream of a sound or video file, as mono.

    Args:
        path: any file FFmpeg reads that holds sound.
        sample_rate: in Hz; None keeps that of the file. n samples at rate r become exactly
            ceil(n * sample_rate / r).

    Raises:
        FileNotFoundError: no such file.
        ValueError: `sample_rate` below 1.
        MediaError: no sound in it, damaged, or too short (under 0.01 s or so) to be resampled.
    """
    from av.audio.resampler import AudioResampler

    if sample_rate is not None and sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    file = input_file(path)
    with open_container(file) as container:
        if not container.streams.audio:
            raise MediaError(f"{file} has no sound; is it a silent video?")
        stream = container.streams.audio[0]
        own_rate = stream.rate
        new_rate = sample_rate or own_rate
        resampler = AudioResampler(format="fltp", rate=new_rate)
        blocks, num_decoded, padding = [], 0, 0
        for frame in container.decode(stream):
            num_decoded += frame.samples
            padding = _padding(frame) if "mp4" in container.format.name else 0
            blocks += _mono(resampler.resample(frame))
        if num_decoded == 0:
            raise MediaError(f"{file} has a sound stream but no samples; record it again")
        blocks += _mono(resampler.resample(None))
        if container.format.name == "flac" and num_decoded < _declared_samples(stream):
            raise MediaError(f"{file} is cut off; copy or download it again")
    if not blocks:
        raise MediaError(
            f"{file} has only {num_decoded} samples, too few to change their rate; "
            "read it without sample_rate"
        )
    num_samples = math.ceil((num_decoded - padding) * new_rate / own_rate)
    samples = torch.cat(blocks).unsqueeze(0)[:, :num_samples]  # the resampler may be one short
    samples = F.pad(samples, (0, num_samples - samples.shape[1]), mode="replicate")
    return Sound(samples.clamp(-1, 1), new_rate)


def write_audio(
    path: PathLike, samples: Tensor, sample_rate: int, *, overwrite: bool = False
) -> None:
    """Write mono sound with 16 bits; the file's ending decides between WAV and FLAC.

    Args:
        path: must end in .wav or .flac.
        samples: `[1, t]` in [-1, 1]; values outside are clamped.
        sample_rate: in Hz.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another ending or shape, no samples, NaN, or a rate below 1.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av

    check_sound(samples, sample_rate)
    steps = (samples.detach().float().cpu() * _STEPS).round().clamp(-_STEPS, _STEPS - 1)
    frame = av.AudioFrame.from_ndarray(
        steps.to(torch.int16).contiguous().numpy(), format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts = sample_rate, 0
    with output_file(path, suffixes=tuple(_CODECS), overwrite=overwrite) as temporary:
        options = {"fflags": "+bitexact"}  # no version of FFmpeg in the file
        with av.open(str(temporary), "w", options=options) as container:
            codec = _CODECS[temporary.suffix]
            stream = container.add_stream(codec, rate=sample_rate, layout="mono")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def check_sound(samples: Tensor, sample_rate: int) -> None:
    """Raise `ValueError` unless this can be written: samples `[1, t]` without NaN, and a rate."""
    if samples.ndim != 2 or samples.shape[0] != 1 or samples.numel() == 0:
        raise ValueError(f"samples must be [1, t] with t at least 1, got {list(samples.shape)}")
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    check_values(samples, "sample", axis=1)


def _mono(frames: list[AudioFrame]) -> list[Tensor]:
    """Planar float frames to one float32 `[n]` each, the mean of their channels."""
    return [torch.from_numpy(frame.to_ndarray()).mean(dim=0) for frame in frames]


def _padding(frame: AudioFrame) -> int:
    """Samples a compressed frame holds beyond the time it lasts: the last one is filled up."""
    lasts = round(frame.duration * float(frame.time_base or 0) * frame.sample_rate)
    return max(0, frame.samples - lasts) if lasts > 0 else 0


def _declared_samples(stream: AudioStream) -> int:
    return round((stream.duration or 0) * float(stream.time_base or 0) * stream.rate)
