"""Containers of sound are held to the length they declare, and a placeholder declares none."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vqvideo.media import MediaError, read_audio

RATE, NUM_SAMPLES = 8000, 2501  # an odd number: chunks of single bytes need a padding byte
FORMATS = {  # name: muxer, codec, options
    "a.wav": ("wav", "pcm_u8", {}),
    "rf64.wav": ("wav", "pcm_s16le", {"rf64": "always"}),
    "a.w64": ("w64", "pcm_s16le", {}),
    "a.aiff": ("aiff", "pcm_u8", {}),
    "a.caf": ("caf", "pcm_s16le", {}),
    "a.au": ("au", "pcm_s16be", {}),
    "a.wma": ("asf", "pcm_s16le", {}),
    "a.wv": ("wv", "wavpack", {}),
    "a.tta": ("tta", "tta", {}),
    "a.ogg": ("ogg", "flac", {}),
}
SIZED = ["a.wav", "rf64.wav", "a.w64", "a.aiff", "a.caf", "a.au"]


def make_samples() -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, NUM_SAMPLES)


def encode(path: Path, muxer: str, codec: str, options: dict[str, str]) -> bytes:
    samples = (make_samples() / 128).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(samples, "flt", "mono")
    frame.sample_rate, frame.pts = RATE, 0
    with av.open(str(path), "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", RATE)
        packets = [p for each in resampler.resample(frame) for p in stream.encode(each)]
        container.mux([*packets, *stream.encode(None)])
    return path.read_bytes()


def build_wav(riff_size: int | None, data_size: int | None) -> bytes:
    """A mono WAV of 16 bits; None is the true size."""
    samples = (make_samples() * 256).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(samples) if data_size is None else data_size
    body = b"WAVE" + form + struct.pack("<4sI", b"data", size) + samples
    size = len(body) if riff_size is None else riff_size
    return struct.pack("<4sI", b"RIFF", size) + body


def check_samples(path: Path) -> None:
    samples = read_audio(path).samples[0]
    if path.suffix == ".w64":  # FFmpeg counts the padding of up to 7 bytes
        samples, padding = samples[:NUM_SAMPLES], samples[NUM_SAMPLES:]
        assert len(padding) < 4 and not padding.any()
    assert torch.equal(samples, torch.from_numpy(make_samples()).float() / 128), path


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_off_anywhere_in_its_samples_is_refused(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    data = encode(path, *FORMATS[name])
    check_samples(path)
    end = len(data) - 200  # WavPack and TTA have a tag after their samples
    for num_bytes in {*range(40, end, 173), end}:
        path.write_bytes(data[:num_bytes])
        with pytest.raises(MediaError, match=name):
            read_audio(path)
    if name in SIZED:
        with pytest.raises(MediaError, match=rf"{name} is truncated: its container declares \d+ b"):
            read_audio(path)


@pytest.mark.parametrize("name", SIZED)
def test_bytes_after_the_samples_may_be_missing_or_in_excess(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = encode(path, *FORMATS[name])
    path.write_bytes(data + bytes(100))
    if name != "a.au":  # has no end but that of the file
        check_samples(path)
    is_padded = name in ("a.wav", "a.aiff")
    path.write_bytes(data[: len(data) - is_padded])
    check_samples(path)


def test_a_wav_is_judged_by_its_samples_and_not_by_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    whole = build_wav(None, None)
    tags = b"LIST" + bytes([200, 0, 0, 0]) + b"INFO"  # cut off after 12 of 208 bytes
    for data in (build_wav(len(whole), None), build_wav(len(whole) + 200, None) + tags):
        path.write_bytes(data)
        check_samples(path)
    for riff_size in (None, 0, 0xFFFFFFFF):
        path.write_bytes(build_wav(riff_size, 2 * NUM_SAMPLES + 2))
        with pytest.raises(MediaError, match=r"a\.wav is truncated"):
            read_audio(path)


# FFmpeg, SoX, LAME, libsndfile, arecord, and a recorder that was switched off
PLACEHOLDERS = [0, 0xFFFFFFFF, 0xFFFFFFF7, 0x7FFFF000, 0x7FFFF024, 0x7FFFFFFF, 0x80000000]


@pytest.mark.parametrize("data_size", PLACEHOLDERS, ids=hex)
def test_a_wav_from_a_pipe_is_read_to_its_end(data_size: int, tmp_path: Path) -> None:
    for riff_size in (*PLACEHOLDERS, min(data_size + 36, 0xFFFFFFFF)):
        (tmp_path / "a.wav").write_bytes(build_wav(riff_size, data_size))
        check_samples(tmp_path / "a.wav")


def test_other_containers_from_a_pipe_are_read_to_their_end(tmp_path: Path) -> None:
    changes = {
        "a.au": (8, b"\xff" * 4),
        "a.caf": (b"data", b"\xff" * 8),
        "a.aiff": (b"SSND", struct.pack(">I", 0x7F000000)),
    }
    for name, (place, size) in changes.items():
        data = bytearray(encode(tmp_path / name, *FORMATS[name]))
        start = place if isinstance(place, int) else data.index(place) + 4
        data[start : start + len(size)] = size
        if name == "a.aiff":
            data[4:8] = struct.pack(">I", 0x7F000000 + 46)
            data = data[:-1]  # without the padding byte, which would count as a sample
        (tmp_path / name).write_bytes(data)
        check_samples(tmp_path / name)


def test_an_rf64_file_without_a_length_is_refused_since_ffmpeg_reads_nothing_of_it(
    tmp_path: Path,
) -> None:
    data = bytearray(encode(tmp_path / "a.wav", *FORMATS["rf64.wav"]))
    start = data.index(b"ds64") + 8
    data[start : start + 24] = bytes(24)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "magic",
    [b"RIFF\xff\xff\0\0WAVE", b"FORM\0\0\xff\xffAIFF", b"RF64\0\0\0\0WAVE"],
    ids=["wav", "aiff", "rf64"],
)
def test_a_file_of_zeros_behind_a_header_is_judged_at_once(magic: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(magic + bytes(1 << 20))
    with pytest.raises(MediaError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")
