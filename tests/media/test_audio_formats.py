"""Sound of every format: the same samples come back, no more and no fewer, at any rate."""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vqvideo.media import read_audio, write_audio

NUM_SAMPLES = 30_001  # fills no whole number of frames of any encoder


def make_chirp(num_samples: int, rate: int) -> np.ndarray:
    """A tone that rises from 200 to about 2000 Hz: shifted by a sample, it is another one."""
    seconds = np.arange(num_samples) / rate
    return (np.sin(2 * np.pi * (200 * seconds + 1400 * seconds**2)) / 2).astype(np.float32)


def make_tone(frequency: float, num_samples: int, rate: int) -> torch.Tensor:
    seconds = torch.arange(num_samples, dtype=torch.float64) / rate
    return (torch.sin(2 * math.pi * frequency * seconds) / 2).float()[None]


def encode(
    path: Path,
    channels: np.ndarray,
    rate: int,
    codec: str,
    options: dict[str, str] | None = None,
    edit: Callable[[av.Packet], None] = lambda packet: None,
    has_video: bool = False,
) -> Path:
    """Write float32 `[c, n]` with any encoder, beside a black frame or alone."""
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
    frame.sample_rate, frame.pts = rate, 0
    with av.open(str(path), "w", options=options or {}) as container:
        if has_video:
            video = container.add_stream("libx264", rate=10)
            video.height, video.width, video.pix_fmt = 16, 16, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 192_000
        convert = av.AudioResampler(stream.format.name, layout, rate)
        packets = [p for each in convert.resample(frame) for p in stream.encode(each)]
        if has_video:
            container.mux([*video.encode(av.VideoFrame(16, 16)), *video.encode(None)])
        for packet in [*packets, *stream.encode(None)]:
            edit(packet)
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        ("pcm_u8", 1 / 128),
        ("pcm_s16le", 1 / 2**15),
        ("pcm_s24le", 1 / 2**23),
        ("pcm_s32le", 1 / 2**24),  # what float32 holds
        ("pcm_f32le", 0),
        ("pcm_f64le", 0),
    ],
)
def test_wav_of_every_sample_type_comes_back(codec: str, step: float, tmp_path: Path) -> None:
    channels = np.stack([make_chirp(5001, 44_100), -make_chirp(5001, 44_100) / 4])
    channels[:, :2] = [[0.99, -1.0], [0.99, -1.0]]
    samples = read_audio(encode(tmp_path / "a.wav", channels, 44_100, codec)).samples[0]
    assert samples.shape == (5001,)
    assert np.abs(samples.numpy() - channels.astype(np.float64).mean(0)).max() <= step + 1e-7
    assert samples[1] == -1


def test_eight_bits_are_unsigned_around_128(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", "none"))
        file.writeframes(bytes([0, 64, 128, 255]))
    assert read_audio(tmp_path / "a.wav").samples.tolist() == [[-1, -0.5, 0, 127 / 128]]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "tolerance"),
    [
        ("a.mp3", "libmp3lame", 44_100, 0.02),
        ("a.m4a", "aac", 44_100, 0.02),
        ("a.m4a", "alac", 48_000, 1e-4),
        ("a.ogg", "libopus", 48_000, 0.05),
        ("a.ogg", "flac", 48_000, 1e-4),
        ("a.flac", "flac", 96_000, 1e-4),
        ("video.mp4", "aac", 48_000, 0.02),
        ("video.mkv", "libopus", 48_000, 0.05),
        ("video.mkv", "libmp3lame", 44_100, 0.02),
    ],
)
def test_what_encoders_add_before_and_after_the_audio_is_left_out(
    name: str, codec: str, rate: int, tolerance: float, tmp_path: Path
) -> None:
    original = make_chirp(NUM_SAMPLES, rate)
    path = encode(
        tmp_path / name, np.stack([original] * 2), rate, codec, has_video=name.startswith("video")
    )
    sound = read_audio(path)
    assert sound.sample_rate == rate
    assert sound.samples.shape == (1, NUM_SAMPLES)
    # The last frame of a compressed file is the worst.
    assert np.abs(sound.samples[0].numpy() - original)[2000:-2000].max() < tolerance
    length = math.ceil(NUM_SAMPLES * 16_000 / rate)
    assert read_audio(path, sample_rate=16_000).samples.shape == (1, length)


def test_aac_in_matroska_begins_in_time_and_is_longer_by_less_than_a_frame(tmp_path: Path) -> None:
    original = make_chirp(NUM_SAMPLES, 48_000)
    samples = read_audio(encode(tmp_path / "a.mkv", original[None], 48_000, "aac")).samples[0]
    assert 0 <= len(samples) - NUM_SAMPLES < 1024
    assert np.abs(samples[:NUM_SAMPLES].numpy() - original)[2000:-2000].max() < 0.02


@pytest.mark.parametrize("default", [None, 0, 1, 2])
def test_of_several_tracks_the_default_one_is_read_or_else_the_first(
    default: int | None, tmp_path: Path
) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(3)]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number == default else 0
        for number, stream in enumerate(streams):
            samples = np.full((1, 99), 4096 * (number + 1), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_audio(tmp_path / "a.mkv").samples.unique().tolist() == [((default or 0) + 1) / 8]


def test_the_tag_of_itunes_says_where_the_audio_begins_and_ends(tmp_path: Path) -> None:
    def fill(packet: av.Packet) -> None:
        packet.duration = 1024

    original = make_chirp(NUM_SAMPLES, 44_100)
    options = {"use_editlist": "0"}
    path = encode(tmp_path / "a.m4a", original[None], 44_100, "aac", options, fill)
    assert read_audio(path).samples.shape[1] > NUM_SAMPLES + 500
    tag = f" 00000000 00000400 000002CF {NUM_SAMPLES:016X} 00000000".encode()
    boxes = b"".join(
        struct.pack(">I4s", len(body) + 8, kind) + body
        for kind, body in (
            (b"mean", bytes(4) + b"com.apple.iTunes"),
            (b"name", bytes(4) + b"iTunSMPB"),
            (b"data", b"\0\0\0\1" + bytes(4) + tag),
        )
    )
    data = bytearray(path.read_bytes() + struct.pack(">I4s", len(boxes) + 8, b"----") + boxes)
    for kind in (b"moov", b"udta", b"meta", b"ilst"):  # each is the last box of the one before
        start = data.rfind(kind) - 4
        data[start : start + 4] = struct.pack(">I", len(data) - start)
    path.write_bytes(data)
    samples = read_audio(path).samples[0].numpy()
    assert samples.shape == (NUM_SAMPLES,)
    assert np.abs(samples - original)[2000:-2000].max() < 0.02


def test_a_dead_channel_halves_and_opposite_channels_cancel(tmp_path: Path) -> None:
    one = make_chirp(9000, 16_000)
    dead = encode(tmp_path / "dead.wav", np.stack([one, one * 0]), 16_000, "pcm_f32le")
    assert np.array_equal(read_audio(dead).samples[0].numpy(), one / 2)
    opposite = encode(tmp_path / "opposite.wav", np.stack([one, -one]), 16_000, "pcm_f32le")
    assert not read_audio(opposite).samples.any()


@pytest.mark.parametrize("num_channels", [3, 6, 8, 10, 24])
def test_any_number_of_channels_is_averaged(num_channels: int, tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(-32768, 32768, (500, num_channels))
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((num_channels, 2, 8000, 0, "NONE", "none"))
        file.writeframes(steps.astype("<i2").tobytes())
    samples = read_audio(tmp_path / "a.wav").samples[0].numpy()
    assert np.allclose(samples, steps.mean(1) / 32768, atol=1e-6)
    assert read_audio(tmp_path / "a.wav", sample_rate=4000).samples.shape == (1, 250)


@pytest.mark.parametrize("peak", [1.4125, 20_000, 1e38])
def test_float_audio_beyond_full_scale_is_turned_down_as_a_whole(
    peak: float, tmp_path: Path
) -> None:
    shape = make_chirp(9000, 16_000)
    shape /= np.abs(shape).max()
    path = encode(tmp_path / "a.wav", shape[None] * np.float32(peak), 16_000, "pcm_f32le")
    samples = read_audio(path).samples[0].numpy()
    assert np.allclose(samples, shape, atol=1e-6)
    assert np.abs(samples).max() == 1
    resampled = read_audio(path, sample_rate=8000).samples
    assert 0.98 < resampled.abs().max() <= 1


def test_steep_edges_do_not_clip_when_they_are_resampled(tmp_path: Path) -> None:
    square = torch.ones(1, 9000)
    square[0, torch.arange(9000) // 100 % 2 == 1] = -1
    write_audio(tmp_path / "loud.wav", square, 44_100)
    write_audio(tmp_path / "low.wav", square / 2, 44_100)
    loud, low = (read_audio(tmp_path / name, sample_rate=16_000).samples
                 for name in ("loud.wav", "low.wav"))  # fmt: skip
    assert loud.abs().max() == 1
    assert low.abs().max() > 0.5  # the edges overshoot
    assert torch.allclose(loud, low / low.abs().max(), atol=1e-3)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_low_tones_keep_their_level_and_high_ones_do_not_fold_back(
    rate: int, tmp_path: Path
) -> None:
    for frequency in (1000, 10_000):
        write_audio(tmp_path / "a.wav", make_tone(frequency, rate // 2, rate), rate, overwrite=True)
        samples = read_audio(tmp_path / "a.wav", sample_rate=16_000).samples
        assert samples.shape == (1, 8000)
        inner = samples[0, 500:-500]
        if frequency == 1000:
            expected = make_tone(frequency, 8000, 16_000)[0, 500:-500]
            assert (inner - expected).abs().max() < 0.005
        else:
            assert inner.abs().max() < 0.5 / 10 ** (60 / 20)


def test_resampled_length_is_exact_for_odd_rates(tmp_path: Path) -> None:
    for num_samples, old, new in (
        (1501, 44_100, 16_000),
        (2999, 8000, 12_345),
        (7001, 11_025, 441),
    ):
        write_audio(tmp_path / "a.wav", make_tone(100, num_samples, old), old, overwrite=True)
        found = read_audio(tmp_path / "a.wav", sample_rate=new).samples.shape[1]
        assert (found - 1) * old < num_samples * new <= found * old


def test_long_audio_is_resampled_in_chunks_without_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "a.wav", make_tone(440, 50_000, 44_100), 44_100)
    whole = read_audio(tmp_path / "a.wav", sample_rate=16_000).samples
    monkeypatch.setattr("vqvideo.media.audio._RESAMPLE_CHUNK", 777)
    assert torch.equal(read_audio(tmp_path / "a.wav", sample_rate=16_000).samples, whole)
