"""Sound files that are not what their name says, or hold what no model should see."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vqvideo.media import MediaError, read_audio, write_audio, write_image


def write_float_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """The bytes of a WAV file of 32-bit floats, one channel."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, rate * 4, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


def write_mp3(path: Path, num_samples: int = 30_000) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, num_samples)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path.read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample_rate", [None, 4000])
def test_a_file_with_nan_or_infinite_samples_is_refused_and_the_place_named(
    bad: float, sample_rate: int | None, tmp_path: Path
) -> None:
    samples = np.zeros(9000)
    samples[[4400, 5000]] = bad
    path = write_float_wav(tmp_path / "a.wav", samples)
    message = r"a\.wav contains NaN or infinity at sample 4400 \(0\.550 s; 2 of 9000 samples\)"
    with pytest.raises(MediaError, match=message):
        read_audio(path, sample_rate=sample_rate)


def test_what_is_no_audio_file_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound\n" * 9)
    (tmp_path / "folder.wav").mkdir()
    write_image(tmp_path / "picture.png", torch.zeros(3, 9, 9))
    (tmp_path / "picture.png").rename(tmp_path / "picture.wav")
    write_float_wav(tmp_path / "head.wav", np.zeros(0))
    expected = {
        "empty.wav": r"is empty \(zero bytes\); copy or download it again",
        "text.wav": r"cannot be read as video or audio .*; try it in a media player",
        "folder.wav": r"is a folder, expected a file; give the path of one file in it",
        "picture.wav": r"has no audio stream; expected an audio file or a video with audio",
        "head.wav": r"has an audio stream but no samples; record it again",
    }
    for name, message in expected.items():
        with pytest.raises(MediaError, match=message) as caught:
            read_audio(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_mp3_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    data = write_mp3(tmp_path / "whole.mp3")
    assert read_audio(tmp_path / "whole.mp3").samples.shape == (1, 30_000)
    for num_bytes in (len(data) // 10, len(data) // 2, len(data) - 200):
        (tmp_path / "cut.mp3").write_bytes(data[:num_bytes])
        with pytest.raises(MediaError, match=r"cut\.mp3 is truncated; copy or download it again"):
            read_audio(tmp_path / "cut.mp3")


def test_an_mp3_with_tags_around_its_audio_or_without_any_is_read(tmp_path: Path) -> None:
    data = write_mp3(tmp_path / "whole.mp3")
    samples = read_audio(tmp_path / "whole.mp3").samples
    (tmp_path / "a.mp3").write_bytes(data + b"TAGtitle" + bytes(120))
    assert torch.equal(read_audio(tmp_path / "a.mp3").samples, samples)
    long_tag = b"ID3\4\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    bare = data[10 + int.from_bytes(data[6:10], "big") :]  # short tags: seven bits hold them
    (tmp_path / "a.mp3").write_bytes(long_tag + bare)
    assert torch.equal(read_audio(tmp_path / "a.mp3").samples, samples)
    (tmp_path / "a.mp3").write_bytes((long_tag + bare)[: -len(bare) // 2])
    with pytest.raises(MediaError, match="is truncated"):
        read_audio(tmp_path / "a.mp3")
    second_frame = bare.index(bare[:2], 2)  # without the frame that says how long the file is
    (tmp_path / "a.mp3").write_bytes(bare[second_frame:])
    assert read_audio(tmp_path / "a.mp3").samples.shape[1] >= 30_000


@pytest.mark.parametrize("between", [b"", b"TAGtitle" + bytes(120)], ids=["bare", "tagged"])
def test_joined_mp3_files_are_read_one_after_another(between: bytes, tmp_path: Path) -> None:
    first, second = (write_mp3(tmp_path / "part.mp3", length) for length in (20_000, 9_001))
    picture = np.random.default_rng(0).bytes(5000)  # may look like audio
    tag = b"ID3\4\0\0" + bytes([0, 0, len(picture) >> 7, len(picture) & 127]) + picture
    bare = second[10 + int.from_bytes(second[6:10], "big") :]
    expected = []
    for part in (first, second, first):
        (tmp_path / "part.mp3").write_bytes(part)
        expected.append(read_audio(tmp_path / "part.mp3").samples)
    joined = between.join([first, tag + bare, first])
    (tmp_path / "a.mp3").write_bytes(joined + b"ID3\4\0\0" + bytes([0, 0, 0, 9]) + bytes(9))
    assert torch.equal(read_audio(tmp_path / "a.mp3").samples, torch.cat(expected, dim=1))
    for cut in (joined[:-300], joined.replace(first, first[:-300], 1)):
        (tmp_path / "cut.mp3").write_bytes(cut)
        with pytest.raises(MediaError, match=r"cut\.mp3 is truncated"):
            read_audio(tmp_path / "cut.mp3")


def test_a_flac_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    noise = torch.rand(1, 30_000, generator=torch.manual_seed(0)) - 0.5
    write_audio(tmp_path / "whole.flac", noise, 8000)
    data = (tmp_path / "whole.flac").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.flac").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(MediaError, match=r"cut\.flac .*download it again"):
            read_audio(tmp_path / "cut.flac")


def test_recordings_joined_in_one_file_may_differ_in_channels_but_not_in_rate(
    tmp_path: Path,
) -> None:
    parts = {}
    for rate, layout in ((16_000, "mono"), (16_000, "stereo"), (24_000, "mono")):
        with av.open(str(tmp_path / "part.aac"), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate, layout=layout)
            silence = np.zeros((1 if layout == "mono" else 2, 9216), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, "fltp", layout)
            frame.sample_rate, frame.pts = rate, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
        parts[rate, layout] = (tmp_path / "part.aac").read_bytes()
    first = parts[16_000, "mono"]
    (tmp_path / "both.aac").write_bytes(first + parts[16_000, "stereo"])
    assert read_audio(tmp_path / "both.aac", sample_rate=8000).samples.shape == (1, 10_240)
    (tmp_path / "both.aac").write_bytes(first + parts[24_000, "mono"])
    with pytest.raises(MediaError, match=r"both\.aac changes from 16000 to 24000 Hz after \d+ sam"):
        read_audio(tmp_path / "both.aac")


def test_samples_of_a_type_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s64le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 99), np.int32), "s32", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        (frame,) = av.AudioResampler("s64", "mono", 8000).resample(frame)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(MediaError, match=r"a\.wav has samples of the type s64, .* convert it to"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("sample_rate", [None, 16_000])
def test_silence_is_read_as_silence(sample_rate: int | None, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.zeros(1, 9000), 8000)
    samples = read_audio(tmp_path / "a.wav", sample_rate=sample_rate).samples
    assert torch.equal(samples, torch.zeros(1, 9000 if sample_rate is None else 18_000))


def test_one_sample_is_read_but_not_resampled(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "none"))
        file.writeframes(struct.pack("<h", -16384))
    assert read_audio(tmp_path / "a.wav").samples.tolist() == [[-0.5]]
    with pytest.raises(MediaError, match=r"a\.wav has only 1 samples, .* without sample_rate"):
        read_audio(tmp_path / "a.wav", sample_rate=16_000)


def test_whole_numbers_are_not_written_as_audio(tmp_path: Path) -> None:
    message = r"samples must be floats in \[-1, 1\], got torch\.int16; divide them by full scale"
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / "a.wav", torch.full((1, 9), 500, dtype=torch.int16), 8000)
