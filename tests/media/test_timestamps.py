"""Reading by time: what a viewer would see at each moment."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vqvideo.media import get_frame_indices, probe, read_video

SQUARES = [n * n for n in range(12)]  # tenths of a second


def find_shown_frames(times: list[Fraction], moment: Fraction) -> int:
    """The last frame whose time has come, by looking at every one."""
    return max(n for n, time in enumerate(times) if time - times[0] <= moment)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize("fps", [10, 8, 3, 40, 2.5])
@pytest.mark.parametrize("start", [0, 0.55, 1.5])
def test_the_frame_shown_at_each_moment_is_read(
    name: str, fps: float, start: float, tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / name, 40, codec="mpeg4" if name == "a.avi" else "libx264")
    clip = read_video(path, fps=fps, start_seconds=start, num_frames=5)
    moments = [Fraction(start) + k / Fraction(fps) for k in range(5)]
    expected = [
        find_shown_frames([Fraction(n, 10) for n in range(40)], moment) for moment in moments
    ]
    assert read_numbers(clip.frames) == expected
    assert clip.fps == fps
    assert get_frame_indices(path, fps, start_seconds=start, num_frames=5) == expected


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("first", [0, 7])
def test_uneven_times_are_respected(
    name: str, first: int, tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / name, 12, pts=[first + n for n in SQUARES])
    times = [Fraction(n, 10) for n in SQUARES]
    moments = [Fraction(k, 4) + Fraction(1, 2) for k in range(40)]
    clip = read_video(path, fps=4, start_seconds=0.5, num_frames=40)
    assert read_numbers(clip.frames) == [find_shown_frames(times, moment) for moment in moments]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times_rounded_by_the_container_do_not_repeat_a_frame(
    name: str, tmp_path: Path, encode, read_numbers
) -> None:
    """Matroska counts milliseconds: at 24 frames per second frame 1 is marked 0.042, not 1/24."""
    path = encode(tmp_path / name, 40, rate=24)
    assert read_numbers(read_video(path, fps=24).frames) == list(range(40))
    assert read_numbers(read_video(path, fps=12).frames) == list(range(0, 40, 2))
    assert read_numbers(read_video(path, fps=48).frames) == [n // 2 for n in range(80)]


def test_without_a_number_of_frames_the_video_is_read_to_its_end(
    tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    assert probe(path).duration == pytest.approx(2)
    assert read_numbers(read_video(path, fps=5).frames) == list(range(0, 20, 2))
    assert read_numbers(read_video(path, fps=5, start_seconds=1.5).frames) == [15, 17, 19]
    assert read_numbers(read_video(path, fps=40, start_seconds=1.9).frames) == [19] * 4


def test_hidden_frames_do_not_count(tmp_path: Path, encode, read_numbers, trim) -> None:
    path = trim(encode(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", first=14)
    clip = read_video(path, fps=5, start_seconds=0.4, num_frames=3)
    assert read_numbers(clip.frames) == [18, 20, 22]


def test_one_frame_lasts_as_long_as_its_rate_says(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 1)
    assert get_frame_indices(path, 30) == [0, 0, 0]


def test_a_last_frame_that_does_not_say_how_long_it_lasts_lasts_as_the_others(
    tmp_path: Path, encode
) -> None:
    path = encode(tmp_path / "a.wmv", 12, codec="wmv2")
    assert probe(path).duration == pytest.approx(1.2)


def test_a_moment_after_the_end_is_refused_with_the_duration(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    with pytest.raises(ValueError, match=r"no frame is displayed at 2 s: .*a\.mp4 ends after 2 s"):
        read_video(path, fps=10, start_seconds=2)
    with pytest.raises(ValueError, match=r"no frame is displayed at 2\.5 s: .* request fewer"):
        read_video(path, fps=4, start_seconds=0.5, num_frames=9)
    assert read_video(path, fps=10, start_seconds=0.5, num_frames=15).frames.shape[1] == 15


def test_wrong_mixtures_and_values_are_refused(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    wrong = {
        "start_seconds and num_frames need fps": {"num_frames": 3},
        "need fps": {"start_seconds": 0.0},
        "either indices or fps, not both": {"indices": [3], "fps": 4},
        "fps must be a positive number of frames per second, got 0": {"fps": 0},
        "per second, got nan": {"fps": float("nan")},
        "start_seconds must be at least 0, got -1": {"fps": 4, "start_seconds": -1},
        "num_frames must be at least 1, got 0": {"fps": 4, "num_frames": 0},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            read_video(path, **options)


def test_the_same_frames_come_by_time_and_by_number(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    by_time = read_video(path, fps=15, start_seconds=0.3, num_frames=9, size=(16, 20)).frames
    chosen = get_frame_indices(path, 15, start_seconds=0.3, num_frames=9)
    assert torch.equal(by_time, read_video(path, chosen, size=(16, 20)).frames)
