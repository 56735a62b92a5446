"""Sound: mono samples in and out of files.

Channels are averaged, so that mono stays what it is and nothing clips. 16-bit WAV and FLAC
come back exactly.

Not here: how long a file says it is (length.py, sound_length.py).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike, input_file, open_container, output_file
from vqvideo.media.pixels import check_values
from vqvideo.media.sound_length import declared_flac_samples, declared_mp3_bytes, trailing_samples

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

_CODECS: dict[str, Literal["pcm_s16le", "flac"]] = {".wav": "pcm_s16le", ".flac": "flac"}
_STEPS = 32768  # of 16-bit sound, from 0 to 1
_BLOCK = 1 << 20  # samples resampled at a time


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

    Mono is the mean of all channels: a silent one halves what the other of two holds, and
    opposite ones cancel. Samples an encoder added before and after the sound are left out
    where the file says so: MP3, MP4 and M4A, Opus. AAC in Matroska and in a bare stream does
    not say: it comes out up to two frames of 1024 samples longer.

    Nothing clips. Float files, decoded MP3 and steep edges after resampling can go beyond
    [-1, 1]; then the whole sound is divided by its largest magnitude, which keeps its shape.
    Every other sound keeps its level.

    Args:
        path: any file FFmpeg reads that holds sound.
        sample_rate: in Hz; None keeps that of the file. n samples at rate r become exactly
            ceil(n * sample_rate / r). Tones up to 3/8 of the new rate stay as they are, those
            above 9/16 of it are taken out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: `sample_rate` below 1.
        MediaError: no sound in it, damaged or cut off, samples that are NaN or infinite, or
            too short (under 0.01 s or so) to be resampled. A cut MP3 shows only where its
            first frame says how long it is, as most do.
    """
    if sample_rate is not None and sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    file = input_file(path)
    with open_container(file) as container:
        if not container.streams.audio:
            raise MediaError(f"{file} has no sound; is it a silent video or a picture?")
        samples, own_rate = _decode(container, file)
    _check_finite(samples, own_rate, file)
    samples = _turn_down(samples)
    if sample_rate is not None and sample_rate != own_rate:
        samples = _turn_down(_resample(samples, own_rate, sample_rate, file))
    return Sound(samples.unsqueeze(0), sample_rate or own_rate)


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
        ValueError: another ending, shape or type, no samples, NaN, or a rate below 1.
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
    """Raise `ValueError` unless this can be written: floats `[1, t]` without NaN, and a rate."""
    if samples.ndim != 2 or samples.shape[0] != 1 or samples.numel() == 0:
        raise ValueError(f"samples must be [1, t] with t at least 1, got {list(samples.shape)}")
    if not samples.is_floating_point():
        raise ValueError(
            f"samples must be floats in [-1, 1], got {samples.dtype}; divide them by full scale"
        )
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    check_values(samples, "sample", axis=1)


def _decode(container: InputContainer, file: Path) -> tuple[Tensor, int]:
    """All samples of the first sound stream, float32 `[n]`, mono, and their rate."""
    if container.format.name == "mp3" and file.stat().st_size < declared_mp3_bytes(file):
        raise MediaError(f"{file} is cut off; copy or download it again")
    stream = container.streams.audio[0]
    blocks, num_decoded, last = [], 0, None
    for frame in container.decode(stream):
        if last is not None and frame.sample_rate != last.sample_rate:
            raise MediaError(
                f"{file} changes from {last.sample_rate} to {frame.sample_rate} Hz after "
                f"{num_decoded} samples; convert it to one rate"
            )
        blocks.append(_mono(frame))
        num_decoded += frame.samples
        last = frame
    if last is None or num_decoded == 0:
        raise MediaError(f"{file} has a sound stream but no samples; record it again")
    if container.format.name == "flac" and num_decoded < declared_flac_samples(stream):
        raise MediaError(f"{file} is cut off; copy or download it again")
    num_samples = num_decoded - trailing_samples(container, last, num_decoded)
    return torch.cat(blocks)[:num_samples], last.sample_rate


def _mono(frame: AudioFrame) -> Tensor:
    """The mean of the channels of a frame, float32 `[n]`; integers become [-1, 1].

    FFmpeg's converter is not asked: it ends the process on channels that have no names.
    """
    values = torch.from_numpy(frame.to_ndarray())
    if frame.format.is_packed:  # [1, n * channels]
        values = values.view(-1, frame.layout.nb_channels).T
    samples = values.float()
    if values.dtype == torch.uint8:
        samples = (samples - 128) / 128
    elif not values.is_floating_point():
        samples = samples / 2.0 ** (torch.iinfo(values.dtype).bits - 1)
    return samples.mean(dim=0)


def _check_finite(samples: Tensor, rate: int, file: Path) -> None:
    bad = ~samples.isfinite()
    if bad.any():
        first, count = int(bad.int().argmax()), int(bad.sum())
        raise MediaError(
            f"{file} holds NaN or infinity at sample {first} ({first / rate:.3f} s; {count} of "
            f"{len(samples)} samples do), sound is finite numbers; repair it or leave it out"
        )


def _turn_down(samples: Tensor) -> Tensor:
    """Sound that leaves [-1, 1], divided by its largest magnitude."""
    peak = samples.abs().max()
    return samples / peak if peak > 1 else samples


def _resample(samples: Tensor, old: int, new: int, file: Path) -> Tensor:
    """Samples `[n]` at rate `old` to `[ceil(n * new / old)]` at rate `new`."""
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="fltp", layout="mono", rate=new)
    frames = []
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK].unsqueeze(0).numpy()
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = old, Fraction(1, old), start
        frames += resampler.resample(frame)
    frames += resampler.resample(None)
    if not frames:
        raise MediaError(
            f"{file} has only {len(samples)} samples, too few to change their rate; "
            "read it without sample_rate"
        )
    num_samples = -(-len(samples) * new // old)
    resampled = torch.cat([torch.from_numpy(frame.to_ndarray())[0] for frame in frames])
    missing = max(0, num_samples - len(resampled))  # the resampler may be one short
    return F.pad(resampled[None, :num_samples], (0, missing), mode="replicate")[0]
