"""Writing video: what comes back is what went in, and no file is ever half there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vqvideo.media import (
    Audio,
    from_uint8,
    probe,
    read_audio,
    read_video,
    to_uint8,
    write_gif,
    write_lossless,
    write_video,
    write_webp,
)

WRITERS = [
    (write_video, "a.mp4"),
    (write_lossless, "a.mkv"),
    (write_lossless, "a.apng"),
    (write_gif, "a.gif"),
    (write_webp, "a.webp"),
]


def make_gradient(num_frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Smooth colours that move: `[3, t, h, w]` in [-1, 1], different along every axis."""
    t, y, x = (torch.linspace(-1, 1, n) for n in (num_frames, height, width))
    red = (y[:, None] + x[None]).expand(num_frames, -1, -1) / 2
    green = (t[:, None, None] + x[None, None]).expand(-1, height, -1) / 2
    blue = (t[:, None, None] - y[None, :, None]).expand(-1, -1, width) / 2
    return torch.stack([red, green, blue])


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_written_frames_come_back_in_order_and_nearly_equal(backend: str, tmp_path: Path) -> None:
    frames = make_gradient(25)[:, torch.randperm(25, generator=torch.manual_seed(0))]
    write_video(tmp_path / "a.mp4", frames, 12.5)
    clip = read_video(tmp_path / "a.mp4", backend=backend)
    assert clip.fps == 12.5
    assert clip.frames.shape == frames.shape
    assert (clip.frames - frames).abs().mean() < 0.02
    for t in range(25):  # the nearest original of each frame is the one with its number
        distances = (frames - clip.frames[:, t : t + 1]).square().mean(dim=(0, 2, 3))
        assert distances.argmin() == t


def test_colours_are_the_colours_that_were_written(tmp_path: Path) -> None:
    for colour in ([0.6, -0.5, -0.8], [-0.7, 0.5, 0.9], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]):
        frames = torch.tensor(colour)[:, None, None, None].expand(3, 3, 16, 16)
        write_video(tmp_path / "a.mp4", frames, 10, overwrite=True, crf=1)
        assert (read_video(tmp_path / "a.mp4").frames - frames).abs().max() < 0.05


def test_the_same_frames_give_the_same_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    seen = set()
    for attempt in range(12):
        junk = [np.random.default_rng(attempt).bytes(7919 * k) for k in range(12)]
        write_video(tmp_path / "a.mp4", make_gradient(20), 10, overwrite=True)
        seen.add((tmp_path / "a.mp4").read_bytes())
        del junk
    assert len(seen) == 1


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_every_writer_repeats_itself(write, name: str, tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        write(tmp_path / name, make_gradient(6, 31, 47), 10, overwrite=True)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_chunks_give_the_file_of_the_whole(write, name: str, tmp_path: Path) -> None:
    frames = make_gradient(11)
    write(tmp_path / name, frames, 10)
    pieces = (piece for piece in frames.split(4, dim=1))
    write(tmp_path / f"pieces_{name}", pieces, 10)
    assert (tmp_path / f"pieces_{name}").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_chunks_are_written_as_they_come(name: str, tmp_path: Path) -> None:
    taken = []

    def pieces() -> Iterator[torch.Tensor]:
        for number in range(12):
            taken.append(number)
            yield torch.rand(3, 8, 96, 128) * 2 - 1
        [temporary] = (path for path in tmp_path.rglob("*") if path.is_file())
        sizes.append(temporary.stat().st_size)

    sizes: list[int] = []
    if name == "a.mkv":
        write_lossless(tmp_path / name, pieces(), 10)
    else:
        write_video(tmp_path / name, pieces(), 10, audio=Audio(torch.zeros(1, 76_800), 8000))
    assert taken == list(range(12))
    assert sizes[0] > (tmp_path / name).stat().st_size / 2  # most was on disk by then


def test_chunks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    broken = make_gradient(4)
    broken[0, 2, 3, 3] = torch.nan
    for pieces, message in (
        ([make_gradient(4), broken], "frame 6 contains NaN"),
        (
            [make_gradient(4), make_gradient(2, 30, 48)],
            r"one size: .*\[3, 4, 32, 48\], .* frame 4 on is \[3, 2",
        ),
        ([make_gradient(4), make_gradient(0)], r"nothing to write: frames are \[3, 0, 32, 48\]"),
        ([], "frames have no chunk"),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / "a.mp4", pieces, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mkv", "a.apng", "a.png"])
def test_lossless_files_give_every_byte_back(name: str, tmp_path: Path) -> None:
    pixels = torch.randint(256, (3, 9, 47, 65), dtype=torch.uint8)
    write_lossless(tmp_path / name, from_uint8(pixels), 12.5)
    clip = read_video(tmp_path / name)
    assert torch.equal(to_uint8(clip.frames), pixels)
    assert clip.fps == 12.5
    assert torch.equal(to_uint8(read_video(tmp_path / name, [7]).frames), pixels[:, 7:8])


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("num_samples", [500, 30_001])
def test_audio_comes_back_as_long_as_it_was_and_in_time(
    rate: int, num_samples: int, tmp_path: Path
) -> None:
    samples = torch.zeros(1, num_samples)
    start = num_samples // 3
    samples[0, start:] = torch.sin(torch.arange(num_samples - start) * 0.3) / 2
    write_video(tmp_path / "a.mp4", make_gradient(25), 10, audio=Audio(samples, rate))
    sound = read_audio(tmp_path / "a.mp4")
    assert sound.sample_rate == rate
    assert sound.samples.shape == samples.shape
    loud = (sound.samples[0].abs() > 0.3).nonzero()[0].item()
    assert loud == pytest.approx(start, abs=40)
    if num_samples > 10_000:
        assert (sound.samples - samples)[0, start + 2000 : -2000].abs().max() < 0.05
    assert torch.equal(read_video(tmp_path / "a.mp4").frames, silent_frames(tmp_path))
    again = tmp_path / "again.mp4"
    write_video(again, make_gradient(25), 10, audio=Audio(samples, rate))
    assert again.read_bytes() == (tmp_path / "a.mp4").read_bytes()


def silent_frames(folder: Path) -> torch.Tensor:
    write_video(folder / "silent.mp4", make_gradient(25), 10)
    return read_video(folder / "silent.mp4").frames


def test_audio_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for sound, message in (
        (Audio(torch.zeros(1, 900), 12_345), r"one of the rates 7350, 8000, .*, got 12345; resam"),
        (Audio(torch.zeros(2, 900), 8000), r"samples must be \[1, t\] .* got \[2, 900\]"),
        (Audio(torch.full((1, 3), torch.nan), 8000), "sample 0 contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / "a.mp4", make_gradient(2), 10, audio=sound)
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_gain_a_copy_of_the_last_row_and_column(tmp_path: Path) -> None:
    frames = make_gradient(4, 31, 47)
    write_video(tmp_path / "a.mp4", frames, 10, crf=1)
    read = read_video(tmp_path / "a.mp4").frames
    assert read.shape == (3, 4, 32, 48)
    assert (read[..., :31, :47] - frames).abs().mean() < 0.02
    assert (read[..., 31, :47] - frames[..., 30, :]).abs().mean() < 0.05


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", make_gradient(1), 10)
    assert probe(tmp_path / "a.mp4").num_frames == 1


@pytest.mark.parametrize("fps", [8.75, 24000 / 1001, 29.97, 0.5, 60])
def test_the_rate_is_kept(fps: float, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", make_gradient(9), fps)
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-6)
    assert probe(tmp_path / "a.mp4").pts_seconds[8] == pytest.approx(8 / fps, abs=1e-3)


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_file_is_replaced_only_on_demand(write, name, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, make_gradient(3), 10)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=rf"{name} exists; pass overwrite=True"):
        write(path, make_gradient(5), 10)
    assert path.read_bytes() == before
    write(path, make_gradient(5), 10, overwrite=True)
    assert path.read_bytes() != before


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    write_video(tmp_path / "a.mp4", make_gradient(3), 10)
    before = (tmp_path / "a.mp4").read_bytes()
    monkeypatch.setattr("vqvideo.media.write.to_uint8", lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "a.mp4", make_gradient(5), 10, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_frames_that_cannot_be_shown_are_refused(write, name, tmp_path: Path) -> None:
    path, frames = tmp_path / name, make_gradient(4)
    broken = frames.clone()
    broken[1, 2, 5, 5] = torch.nan
    refused = [
        (broken, 10, r"frame 2 contains NaN \(1 of 4 do\)"),
        (frames[None], 10, r"must be \[3, t, h, w\], got \[1, 3, 4, 32, 48\]"),
        (frames.transpose(0, 1), 10, r"got \[4, 3, 32, 48\]"),
        (frames[:, :0], 10, r"nothing to write: frames are \[3, 0, 32, 48\]"),
        (frames.to(torch.uint8), 10, "got torch.uint8; use from_uint8"),
        (frames, 0, "fps must be a positive number .* got 0"),
        (frames, float("nan"), "fps must be a positive number .* got nan"),
    ]
    for bad, fps, message in refused:
        with pytest.raises(ValueError, match=message):
            write(path, bad, fps)
    with pytest.raises(
        ValueError, match=rf"must end in .*\{path.suffix}.*, got '\.avi'; write_vid"
    ):
        write(path.with_suffix(".avi"), frames, 10)
    with pytest.raises(FileNotFoundError, match=r"folder .*missing does not exist; create it"):
        write(tmp_path / "missing" / name, frames, 10)
    assert list(tmp_path.iterdir()) == []


def test_values_outside_are_clamped(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", make_gradient(3) * 5, 10)
    write_video(tmp_path / "b.mp4", (make_gradient(3) * 5).clamp(-1, 1), 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_quality_and_rate_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"crf must lie in 0\.\.51, got 52"):
        write_video(tmp_path / "a.mp4", make_gradient(2), 10, crf=52)
    with pytest.raises(ValueError, match="keyframe_interval must be at least 1, got 0"):
        write_video(tmp_path / "a.mp4", make_gradient(2), 10, keyframe_interval=0)
    with pytest.raises(ValueError, match="at most 100 frames per second, got 120"):
        write_gif(tmp_path / "a.gif", make_gradient(2), 120)
