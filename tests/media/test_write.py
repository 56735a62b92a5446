"""Writing video: what comes back is what went in, and no file is ever half there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo.media import probe, read_video, write_gif, write_video


def gradient(num_frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Smooth colours that move: `[3, t, h, w]` in [-1, 1], different along every axis."""
    t, y, x = (torch.linspace(-1, 1, n) for n in (num_frames, height, width))
    red = (y[:, None] + x[None]).expand(num_frames, -1, -1) / 2
    green = (t[:, None, None] + x[None, None]).expand(-1, height, -1) / 2
    blue = (t[:, None, None] - y[None, :, None]).expand(-1, -1, width) / 2
    return torch.stack([red, green, blue])


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_written_frames_come_back_in_order_and_nearly_equal(backend: str, tmp_path: Path) -> None:
    frames = gradient(25)[:, torch.randperm(25, generator=torch.manual_seed(0))]
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
        write_video(tmp_path / "a.mp4", gradient(20), 10, overwrite=True)
        seen.add((tmp_path / "a.mp4").read_bytes())
        del junk
    assert len(seen) == 1
    for name in ("a.gif", "b.gif"):
        write_gif(tmp_path / name, gradient(6), 10)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_mp4_is_what_a_browser_plays(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gradient(40), 10)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        keys = [n for n, p in enumerate(container.demux(stream)) if p.is_keyframe]
    assert max(b - a for a, b in pairwise(keys)) <= 16


def test_odd_sizes_gain_a_copy_of_the_last_row_and_column(tmp_path: Path) -> None:
    frames = gradient(4, 31, 47)
    write_video(tmp_path / "a.mp4", frames, 10, crf=1)
    read = read_video(tmp_path / "a.mp4").frames
    assert read.shape == (3, 4, 32, 48)
    assert (read[..., :31, :47] - frames).abs().mean() < 0.02
    assert (read[..., 31, :47] - frames[..., 30, :]).abs().mean() < 0.05


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gradient(1), 10)
    assert probe(tmp_path / "a.mp4").num_frames == 1


@pytest.mark.parametrize("fps", [8.75, 24000 / 1001, 29.97, 0.5, 60])
def test_the_rate_is_kept(fps: float, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gradient(9), fps)
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-6)
    assert probe(tmp_path / "a.mp4").seconds[8] == pytest.approx(8 / fps, abs=1e-3)


def test_gif_repeats_for_ever_and_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    frames = gradient(13)
    write_gif(tmp_path / "a.gif", frames, 8.75)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.info["loop"], image.size) == (13, 0, (48, 32))
        durations = []
        for number in range(13):
            image.seek(number)
            durations.append(image.info["duration"])
            shown = np.asarray(image.convert("RGB")).astype(np.float32) / 127.5 - 1
            assert np.abs(shown - frames[:, number].permute(1, 2, 0).numpy()).mean() < 0.08
    assert sum(durations) == pytest.approx(1000 * 13 / 8.75, abs=5)
    assert read_video(tmp_path / "a.gif").frames.shape == frames.shape


def test_equal_gif_frames_become_one_that_lasts_longer(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", gradient(3)[:, [0, 1, 1, 1, 2]], 10)
    assert probe(tmp_path / "a.gif").seconds == pytest.approx((0, 0.1, 0.4))


@pytest.mark.parametrize(("write", "name"), [(write_video, "a.mp4"), (write_gif, "a.gif")])
def test_a_file_is_replaced_only_on_demand(write, name, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, gradient(3), 10)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=rf"{name} exists; pass overwrite=True"):
        write(path, gradient(5), 10)
    assert path.read_bytes() == before
    write(path, gradient(5), 10, overwrite=True)
    assert probe(path).num_frames == 5


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    write_video(tmp_path / "a.mp4", gradient(3), 10)
    before = (tmp_path / "a.mp4").read_bytes()
    monkeypatch.setattr("vqvideo.media.write.to_uint8", lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "a.mp4", gradient(5), 10, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize(("write", "name"), [(write_video, "a.mp4"), (write_gif, "a.gif")])
def test_frames_that_cannot_be_shown_are_refused(write, name, tmp_path: Path) -> None:
    path, frames = tmp_path / name, gradient(4)
    broken = frames.clone()
    broken[1, 2, 5, 5] = torch.nan
    refused = [
        (broken, 10, r"frame 2 holds NaN \(1 of 4 do\)"),
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
    with pytest.raises(ValueError, match=rf"must end in \{path.suffix}, got '\.avi'"):
        write(path.with_suffix(".avi"), frames, 10)
    with pytest.raises(FileNotFoundError, match=r"folder .*missing does not exist; create it"):
        write(tmp_path / "missing" / name, frames, 10)
    assert list(tmp_path.iterdir()) == []


def test_values_outside_are_clamped(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gradient(3) * 5, 10)
    write_video(tmp_path / "b.mp4", (gradient(3) * 5).clamp(-1, 1), 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_quality_and_rate_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"crf must lie in 0\.\.51, got 52"):
        write_video(tmp_path / "a.mp4", gradient(2), 10, crf=52)
    with pytest.raises(ValueError, match="keyframe_interval must be at least 1, got 0"):
        write_video(tmp_path / "a.mp4", gradient(2), 10, keyframe_interval=0)
    with pytest.raises(ValueError, match="at most 100 frames per second, got 120"):
        write_gif(tmp_path / "a.gif", gradient(2), 120)
