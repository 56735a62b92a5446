"""Sound in and out of files, sample by sample."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vqvideo.media import MediaError, read_audio, write_audio, write_video


def make_every_sample_value(num_samples: int) -> torch.Tensor:
    """Samples that 16 bits hold exactly, the extremes among them."""
    steps = torch.randint(-32768, 32768, (1, num_samples), generator=torch.manual_seed(0))
    steps[0, :3] = torch.tensor([-32768, 32767, 0])
    return steps / 32768


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("num_samples", [1, 3, 1024, 4097, 50_001])
def test_sixteen_bits_come_back_exactly(name: str, num_samples: int, tmp_path: Path) -> None:
    samples = make_every_sample_value(max(3, num_samples))[:, :num_samples]
    write_audio(tmp_path / name, samples, 16_000)
    sound = read_audio(tmp_path / name)
    assert sound.sample_rate == 16_000
    assert sound.samples.dtype == torch.float32
    assert torch.equal(sound.samples, samples)


def test_wav_holds_the_samples_and_nothing_else_reads_them_differently(tmp_path: Path) -> None:
    samples = make_every_sample_value(1000)
    write_audio(tmp_path / "a.wav", samples, 22_050)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        steps = np.frombuffer(file.readframes(2000), "<i2")
    assert steps.tolist() == (samples[0] * 32768).int().tolist()
    write_audio(tmp_path / "b.wav", samples, 22_050)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(("old", "new"), [(44_100, 16_000), (16_000, 22_050), (8000, 48_000)])
@pytest.mark.parametrize("num_samples", [778, 44_100])
def test_resampling_keeps_the_tone_and_the_length(
    old: int, new: int, num_samples: int, tmp_path: Path
) -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(num_samples) / old)[None] / 2
    write_audio(tmp_path / "a.wav", tone, old)
    sound = read_audio(tmp_path / "a.wav", sample_rate=new)
    assert sound.sample_rate == new
    assert sound.samples.shape == (1, math.ceil(num_samples * new / old))
    expected = torch.sin(2 * math.pi * 440 * torch.arange(sound.samples.shape[1]) / new) / 2
    inner = slice(200, -200)  # the ends hear silence outside
    assert torch.allclose(sound.samples[0, inner], expected[inner], atol=0.01)


def test_audio_too_short_to_be_resampled_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", make_every_sample_value(5), 8000)
    with pytest.raises(MediaError, match=r"a\.wav has only 5 samples.*read it without sample_rate"):
        read_audio(tmp_path / "a.wav", sample_rate=16_000)
    assert read_audio(tmp_path / "a.wav", sample_rate=8000).samples.shape == (1, 5)


def test_channels_are_averaged(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", "none"))
        file.writeframes(np.array([[100, 300], [-32768, -32768], [32767, 1]], "<i2").tobytes())
    expected = torch.tensor([[200, -32768, 16384]]) / 32768
    assert torch.equal(read_audio(tmp_path / "a.wav").samples, expected)


def test_the_audio_of_a_video_is_read(tmp_path: Path) -> None:
    tone = (np.sin(np.arange(16_000) / 10) * 16_000).astype(np.int16)[None]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 16, 16, "yuv420p"
        audio = container.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(video.encode(av.VideoFrame(16, 16)))
        container.mux(video.encode(None))
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    assert torch.equal(read_audio(tmp_path / "a.mkv").samples, torch.from_numpy(tone) / 32768)


def test_a_file_without_audio_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound\n" * 9)
    write_video(tmp_path / "silent.mp4", torch.zeros(3, 2, 16, 16), 10)
    for name in ("whole.wav", "whole.flac"):
        write_audio(tmp_path / name, make_every_sample_value(30_000), 8000)
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"cut{name[5:]}").write_bytes(data[: len(data) // 2])
    expected = {
        "text.wav": r"text\.wav cannot be read",
        "silent.mp4": r"silent\.mp4 has no audio stream",
        "cut.wav": r"cut\.wav is truncated",
        "cut.flac": r"cut\.flac ",
    }
    for name, message in expected.items():
        with pytest.raises(MediaError, match=message):
            read_audio(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_audio(tmp_path / "nothing.wav")
    with pytest.raises(ValueError, match="sample_rate must be a positive number of Hz, got 0"):
        read_audio(tmp_path / "whole.wav", sample_rate=0)


def test_audio_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.wav or \.flac, got '\.mp3'"):
        write_audio(tmp_path / "a.mp3", make_every_sample_value(9), 8000)
    for bad, message in (
        (make_every_sample_value(9)[0], r"must be \[1, t\] with t at least 1, got \[9\]"),
        (make_every_sample_value(9).expand(2, -1), r"got \[2, 9\]"),
        (make_every_sample_value(9)[:, :0], r"got \[1, 0\]"),
        (torch.tensor([[0, torch.nan]]), "sample 1 contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            write_audio(tmp_path / "a.wav", bad, 8000)
    with pytest.raises(ValueError, match=r"sample_rate must be .* got 0"):
        write_audio(tmp_path / "a.wav", make_every_sample_value(9), 0)
    write_audio(tmp_path / "a.wav", make_every_sample_value(9) * 3, 8000)
    assert read_audio(tmp_path / "a.wav").samples.abs().max() <= 1
    with pytest.raises(FileExistsError, match=r"a\.wav exists; pass overwrite=True"):
        write_audio(tmp_path / "a.wav", make_every_sample_value(9), 8000)
