"""Read and write mono audio files.

Channels are averaged, so that mono is unchanged and nothing clips. A round trip through 16-bit
WAV or FLAC is exact.

Not here: the declared length of a file (declared_size.py, audio_length.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.audio_length import (
    compute_num_samples,
    count_padding_samples,
    read_mp3_size,
    split_mp3,
)
from vqvideo.media.files import (
    MediaError,
    PathLike,
    open_container,
    open_input,
    output_file,
    resolve_input_file,
)
from vqvideo.media.pixels import check_no_nan

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_CODECS: dict[str, Literal["pcm_s16le", "flac"]] = {".wav": "pcm_s16le", ".flac": "flac"}
_INT16_SCALE = 32768  # full scale of 16-bit audio
_RESAMPLE_CHUNK = 1 << 20  # samples resampled at a time


class Audio(NamedTuple):
    """Mono audio.

    Attributes:
        samples: float32 `[1, t]` in [-1, 1].
        sample_rate: samples per second (Hz).
    """

    samples: Tensor
    sample_rate: int


def read_audio(path: PathLike, *, sample_rate: int | None = None) -> Audio:
    """Read the audio of an audio or video file, as mono.

    Of several audio streams, the one marked as the default is read, or else the first.

    Mono is the mean of all channels: if one of two channels is silent, the other is halved, and
    opposite channels cancel. Encoder delay and padding are removed if the file declares them:
    MP3, MP4 and M4A, Opus. AAC in Matroska and raw AAC streams do not declare them; the result
    is up to two frames of 1024 samples longer. MP3 files that were joined into one are read one
    after another.

    Nothing clips. Float files, decoded MP3 and steep edges after resampling can exceed [-1, 1];
    then all samples are divided by the largest magnitude. Otherwise the level is unchanged.

    Args:
        path: a file with audio, in a format of `vqvideo.media.formats`.
        sample_rate: in Hz; None keeps the rate of the file. n samples at rate r become exactly
            ceil(n * sample_rate / r). Frequencies up to 3/8 of the new rate pass unchanged;
            those above 9/16 of it are removed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: `sample_rate` is below 1.
        MediaError: the file has no audio, is damaged or truncated, has NaN or infinite samples,
            or is too short to resample (about 0.01 s). A truncated file is detected if its
            header declares the length. Formats without such a header (AAC, AC-3, AMR, MPEG-TS)
            consist of frames, and lose only an incomplete last one; so does an MP3 whose first
            frame does not declare the length. A program that writes into a pipe cannot declare
            the length, so such a recording is read to its end.
    """
    if sample_rate is not None and sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    file = resolve_input_file(path)
    with open_container(file) as container:
        samples, own_rate = _decode(container, file)
    _check_finite(samples, own_rate, file)
    samples = _normalize_peak(samples)
    if sample_rate is not None and sample_rate != own_rate:
        samples = _normalize_peak(_resample(samples, own_rate, sample_rate, file))
    return Audio(samples.unsqueeze(0), sample_rate or own_rate)


def write_audio(
    path: PathLike, samples: Tensor, sample_rate: int, *, overwrite: bool = False
) -> None:
    """Write mono audio as 16-bit WAV or FLAC, chosen by the suffix of the path.

    Args:
        path: must end in .wav or .flac.
        samples: `[1, t]` in [-1, 1]; values outside are clamped.
        sample_rate: in Hz.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong suffix, shape or dtype, no samples, NaN, or a rate below 1.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av

    check_audio(samples, sample_rate)
    pcm = (
        (samples.detach().float().cpu() * _INT16_SCALE)
        .round()
        .clamp(-_INT16_SCALE, _INT16_SCALE - 1)
    )
    frame = av.AudioFrame.from_ndarray(
        pcm.to(torch.int16).contiguous().numpy(), format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts = sample_rate, 0
    with output_file(path, suffixes=tuple(_CODECS), overwrite=overwrite) as temporary:
        options = {"fflags": "+bitexact"}  # do not store the version of FFmpeg
        with av.open(str(temporary), "w", options=options) as container:
            codec = _CODECS[temporary.suffix]
            stream = container.add_stream(codec, rate=sample_rate, layout="mono")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def check_audio(samples: Tensor, sample_rate: int) -> None:
    """Raise `ValueError` unless `samples` are floats `[1, t]` without NaN and the rate is valid."""
    if samples.ndim != 2 or samples.shape[0] != 1 or samples.numel() == 0:
        raise ValueError(f"samples must be [1, t] with t at least 1, got {list(samples.shape)}")
    if not samples.is_floating_point():
        raise ValueError(
            f"samples must be floats in [-1, 1], got {samples.dtype}; divide them by full scale"
        )
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    check_no_nan(samples, "sample", dim=1)


def _decode(container: InputContainer, file: Path) -> tuple[Tensor, int]:
    """Return all samples of the audio stream, float32 mono `[n]`, and their rate."""
    blocks, num_decoded, rate = [], 0, None
    for part in _open_parts(container, file):
        stream = _find_audio_stream(part, file)
        num_before, last = num_decoded, None
        for frame in part.decode(stream):
            rate = rate or frame.sample_rate
            if frame.sample_rate != rate:
                raise MediaError(
                    f"{file} changes from {rate} to {frame.sample_rate} Hz after "
                    f"{num_decoded} samples; convert it to one rate"
                )
            blocks.append(_downmix(frame, file))
            num_decoded += frame.samples
            last = frame
        num_in_part = num_decoded - num_before
        if last is None or num_in_part == 0:
            raise MediaError(f"{file} has an audio stream but no samples; record it again")
        if num_in_part < compute_num_samples(part, stream):
            raise MediaError(f"{file} is truncated; copy or download it again")
        num_padding = count_padding_samples(part, last, num_in_part)
        blocks[-1] = blocks[-1][: len(blocks[-1]) - num_padding]
    assert rate is not None
    return torch.cat(blocks), rate


def _open_parts(container: InputContainer, file: Path) -> Iterator[InputContainer]:
    """Yield the container, or the parts of an MP3 that consists of several joined files."""
    if container.format.name != "mp3":
        yield container
        return
    parts = split_mp3(file.read_bytes())
    if any(len(part) < read_mp3_size(part) for part in parts):
        raise MediaError(f"{file} is truncated; copy or download it again")
    if len(parts) == 1:
        yield container
        return
    for part in parts:
        with open_input(file, io.BytesIO(part)) as opened:
            yield opened


def _find_audio_stream(container: InputContainer, file: Path) -> AudioStream:
    """Return the audio stream that is marked as the default, or else the first."""
    streams = container.streams.audio
    if not streams:
        raise MediaError(
            f"{file} has no audio stream; expected an audio file or a video with audio"
        )
    defaults = [stream for stream in streams if stream.disposition & stream.disposition.default]
    return (defaults or list(streams))[0]


def _downmix(frame: AudioFrame, file: Path) -> Tensor:
    """Return the mean of the channels of a frame, float32 `[n]`; scale integers to [-1, 1].

    FFmpeg's converter is not used: it aborts the process on channels without names.
    """
    try:
        values = torch.from_numpy(frame.to_ndarray())
    except ValueError as error:  # integers of 64 bits
        raise MediaError(
            f"{file} has samples of the type {frame.format.name}, which is not supported; "
            "convert it to 16 or 24 bits"
        ) from error
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
            f"{file} contains NaN or infinity at sample {first} ({first / rate:.3f} s; {count} of "
            f"{len(samples)} samples), expected finite samples; repair it or leave it out"
        )


def _normalize_peak(samples: Tensor) -> Tensor:
    """Divide samples that exceed [-1, 1] by their largest magnitude."""
    peak = samples.abs().max()
    return samples / peak if peak > 1 else samples


def _resample(samples: Tensor, orig_rate: int, new_rate: int, file: Path) -> Tensor:
    """Resample `[n]` from `orig_rate` to `[ceil(n * new_rate / orig_rate)]` at `new_rate`."""
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frames = []
    for start in range(0, len(samples), _RESAMPLE_CHUNK):
        block = samples[start : start + _RESAMPLE_CHUNK].unsqueeze(0).numpy()
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = orig_rate, Fraction(1, orig_rate), start
        frames += resampler.resample(frame)
    frames += resampler.resample(None)
    if not frames:
        raise MediaError(
            f"{file} has only {len(samples)} samples, too few to resample; "
            "read it without sample_rate"
        )
    num_samples = -(-len(samples) * new_rate // orig_rate)
    resampled = torch.cat([torch.from_numpy(frame.to_ndarray())[0] for frame in frames])
    missing = max(0, num_samples - len(resampled))  # the resampler may return one too few
    return F.pad(resampled[None, :num_samples], (0, missing), mode="replicate")[0]
