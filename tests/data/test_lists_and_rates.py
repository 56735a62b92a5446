"""Clips of a list of files, and at a rate that is not that of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vqvideo import media
from vqvideo.data.clips import ClipDataset
from vqvideo.data.metadata import Item, write_metadata

SHAPE = (4, 16, 24)


def compute_windows(files: list[tuple[range, int]], fps: float, step: int) -> list[list[int]]:
    """The windows of files of (numbers, frames per second), moment by moment."""
    windows = []
    for numbers, rate in files:
        shown, moment = [], 0
        while moment * rate < len(numbers) * fps:  # the file has not ended
            shown.append(numbers[int(moment * rate / fps + 1e-6)])
            moment += 1
        starts = range(0, len(shown), step)
        windows += [shown[start : start + 4] for start in starts if start + 4 <= len(shown)]
    return windows


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("fps", [2.5, 3, 4, 8, 10, 16, 29.97])
def test_files_of_different_rates_give_clips_of_one(
    tmp_path, write_numbers, read_numbers, fps, step
):
    files = [(range(0, 16), 8), (range(20, 43), 10), (range(45, 58), 4)]
    for number, (frames, rate) in enumerate(files):
        write_numbers(tmp_path / f"{number}.mp4", frames, rate)
    write_metadata(tmp_path, [Item(tmp_path / f"{number}.mp4", "test") for number in range(3)])
    dataset = ClipDataset(tmp_path, SHAPE, split="test", fps=fps, clip_stride=step)
    assert [read_numbers(dataset[i]["x"]) for i in range(len(dataset))] == compute_windows(
        files, fps, step
    )


def test_the_end_of_the_only_file_is_the_test_split_at_another_rate_too(
    tmp_path, write_numbers, read_numbers
):
    write_numbers(tmp_path / "a.mp4", range(40))
    train, test = (
        ClipDataset(tmp_path, SHAPE, fps=4, clip_stride=2, split=split)
        for split in ("train", "test")
    )
    assert [read_numbers(test[i]["x"]) for i in range(len(test))] == [[32, 34, 36, 38]]
    shown = {number for i in range(len(train)) for number in read_numbers(train[i]["x"])}
    assert shown == set(range(0, 32, 2))


def test_actions_are_refused_at_another_rate(tmp_path, write_numbers):
    write_numbers(tmp_path / "a.mp4", range(12))
    np.save(tmp_path / "a.npy", np.zeros(11, np.int8))
    write_metadata(tmp_path, [Item(tmp_path / "a.mp4", "test", actions=tmp_path / "a.npy")])
    with pytest.raises(ValueError, match=r"actions belong to the frames .* which fps=4 skips"):
        ClipDataset(tmp_path, SHAPE, split="test", fps=4)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_positive_number(tmp_path, fps):
    with pytest.raises(ValueError, match=r"fps must be a positive number .*, got"):
        ClipDataset(tmp_path, SHAPE, fps=fps)


@pytest.mark.parametrize("shape", [(16, 24), (300,)])
def test_only_clips_have_frames_per_second(tmp_path, shape):
    with pytest.raises(ValueError, match=r"fps is for clips .*, got the shape"):
        ClipDataset(tmp_path, shape, fps=8, sample_rate=8000)


def test_a_list_of_files_of_several_folders_is_split_like_one(
    tmp_path, write_numbers, read_numbers
):
    paths: list[Path] = []
    for number in range(10):
        (tmp_path / str(number)).mkdir()
        name = f"{number}/a.mp4" if number else "0/a.of-another-ending"
        path = tmp_path / name
        write_numbers(tmp_path / "new.mp4", range(4 * number, 4 * number + 4)).rename(path)
        paths.append(path)
    given = [str(paths[9]), *paths[:9]]
    train, test = (ClipDataset(given, SHAPE, split=split) for split in ("train", "test"))
    expected = [list(range(4 * n, 4 * n + 4)) for n in (9, *range(9))]
    assert [read_numbers(test[i]["x"]) for i in range(len(test))] == [expected.pop(5)]
    assert [read_numbers(train[i]["x"]) for i in range(len(train))] == expected
    assert set(train[0]) == {"x"}  # no classes from the folders


def test_a_list_that_does_not_do_is_refused(tmp_path, write_numbers):
    path = write_numbers(tmp_path / "a.mp4", range(8))
    with pytest.raises(ValueError, match="the list of files is empty"):
        ClipDataset([], SHAPE)
    with pytest.raises(ValueError, match=r"each file once, got .*a\.mp4 more than once"):
        ClipDataset([path, tmp_path / "b.mp4", str(path)], SHAPE)
    with pytest.raises(FileNotFoundError, match=r"b\.mp4 does not exist"):
        ClipDataset([tmp_path / "b.mp4", path], SHAPE, max_corrupt=1)
    with pytest.raises(ValueError, match=r"the list has no window of \[9, 16, 24\] .*: 1 files"):
        ClipDataset([path], (9, 16, 24))


def test_an_image_that_does_not_exist_is_missed_before_training(tmp_path):
    media.write_image(tmp_path / "a.png", torch.zeros(3, 4, 6))
    with pytest.raises(FileNotFoundError, match=r"b\.png does not exist"):
        ClipDataset([tmp_path / "b.png", tmp_path / "a.png"], (4, 6))


def test_windows_know_their_file_and_start(tmp_path, write_numbers):
    for name in "ab":
        write_numbers(tmp_path / f"{name}.mp4", range(9))
    dataset = ClipDataset(tmp_path, SHAPE, clip_stride=3)
    assert [(window.item.path.name, window.start) for window in dataset.windows] == [
        ("a.mp4", 0),
        ("a.mp4", 3),
    ]
    assert torch.equal(dataset[-1]["x"], dataset[1]["x"])
    with pytest.raises(IndexError):
        dataset[2]
