"""The lengths of files are measured once, and never wrong for that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from vqvideo import media
from vqvideo.data import length_cache
from vqvideo.data.clips import ClipDataset

SHAPE = (4, 16, 24)


@pytest.fixture
def opened_files(monkeypatch) -> list[str]:
    """Names of the files that are measured from now on."""
    names: list[str] = []
    probe = media.probe

    def noting(path):
        names.append(Path(path).name)
        return probe(path)

    monkeypatch.setattr(media, "probe", noting)
    return names


@pytest.fixture
def videos(tmp_path, write_numbers) -> Path:
    """Twenty files of 8 to 27 frames; numbers 5 and 15 are held out."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(20):
        write_numbers(folder / f"{number:02d}.mp4", range(8 + number))
    return folder


def get_lengths(dataset: ClipDataset) -> dict[str, int]:
    """How many windows start in each file."""
    counts: dict[str, int] = {}
    for window in dataset.windows:
        counts[window.item.path.name] = counts.get(window.item.path.name, 0) + 1
    return counts


EXPECTED = {f"{n:02d}.mp4": 8 + n - 4 + 1 for n in range(20) if n not in (5, 15)}


def build(folder: Path, split: str = "train", **options) -> ClipDataset:
    return ClipDataset(folder, SHAPE, split=split, clip_stride=1, **options)


def test_no_file_is_opened_a_second_time(videos, opened_files):
    assert get_lengths(build(videos)) == EXPECTED
    assert sorted(opened_files) == sorted(EXPECTED)
    opened_files.clear()
    assert get_lengths(build(videos)) == EXPECTED
    assert get_lengths(ClipDataset(videos, SHAPE, clip_stride=1, fps=4))["19.mp4"] == 14 - 4 + 1
    assert opened_files == []
    build(videos, "test")
    assert opened_files == ["05.mp4", "15.mp4"]
    opened_files.clear()
    assert [len(build(videos, split)) for split in ("train", "test")] == [
        sum(EXPECTED.values()),
        (13 - 3) + (23 - 3),
    ]
    assert opened_files == []


def test_a_list_of_the_same_files_shares_their_index(videos, opened_files):
    build(videos)
    opened_files.clear()
    paths = sorted(videos.iterdir())
    ClipDataset([paths[5], *paths[:5], *paths[6:9]], SHAPE)
    assert opened_files == ["05.mp4"]


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_is_measured_anew_and_no_other(
    videos, opened_files, write_numbers, change
):
    build(videos)
    path = videos / "03.mp4"
    before = path.stat()
    if change == "size":
        write_numbers(path, range(30))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    opened_files.clear()
    found = get_lengths(build(videos))
    assert opened_files == ["03.mp4"]
    assert found == EXPECTED | ({"03.mp4": 27} if change == "size" else {})


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def lengthen(data: bytes) -> bytes:
    """Still an index, but for the length of a file."""
    return data.replace(b", 27, 3.375]", b", 77, 9.625]")


@pytest.mark.parametrize("damage", [truncate, lengthen, lambda data: b"", lambda data: b"[]\n{}"])
def test_a_damaged_index_is_made_anew(videos, opened_files, cache_folder, damage):
    build(videos)
    (store,) = cache_folder.iterdir()
    whole = store.read_bytes()
    store.write_bytes(damage(whole))
    assert store.read_bytes() != whole
    opened_files.clear()
    assert get_lengths(build(videos)) == EXPECTED
    assert len(opened_files) == 18
    assert store.read_bytes() == whole


def test_an_index_of_another_version_is_not_believed(videos, opened_files, monkeypatch):
    build(videos)
    opened_files.clear()
    monkeypatch.setattr(length_cache, "_FORMAT_VERSION", length_cache._FORMAT_VERSION + 1)
    build(videos)
    assert len(opened_files) == 18


def test_a_cache_that_cannot_be_written_to_does_not_stop_training(
    videos, opened_files, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VQVIDEO_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert get_lengths(build(videos)) == EXPECTED
    assert len(opened_files) == 2 * 18


def test_without_a_variable_the_index_is_in_the_home(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VQVIDEO_CACHE")
    before = sorted(videos.iterdir())
    build(videos)
    assert len(list((tmp_path / "home/.cache/vqvideo").iterdir())) == 1
    assert sorted(videos.iterdir()) == before


def test_what_was_measured_before_an_interruption_is_kept(videos, opened_files):
    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(videos, progress=interrupt)
    assert len(opened_files) == 7
    opened_files.clear()
    build(videos)
    assert len(opened_files) == 18 - 7


def test_progress_counts_the_files_that_are_opened(videos, write_numbers):
    seen: list[tuple[int, int]] = []
    build(videos, progress=lambda *counts: seen.append(counts))
    assert seen == [(number, 18) for number in range(1, 19)]
    seen.clear()
    build(videos, progress=lambda *counts: seen.append(counts))
    assert seen == []
    write_numbers(videos / "07.mp4", range(40))
    build(videos, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 1)]


def test_audio_is_measured_once_for_all_sample_rates(tmp_path, monkeypatch):
    samples = torch.rand(1, 4001) - 0.5
    media.write_audio(tmp_path / "a.wav", samples, 8000)
    found = {rate: media.read_audio(tmp_path / "a.wav", sample_rate=rate).samples.shape[1]
             for rate in (8000, 4000, 11025, 3001)}  # fmt: skip
    measured = []
    read_audio = media.read_audio
    monkeypatch.setattr(
        media,
        "read_audio",
        lambda *args, **kwargs: measured.append(1) or read_audio(*args, **kwargs),
    )
    for rate, length in found.items():
        splits = [
            ClipDataset(tmp_path, (5,), split=split, sample_rate=rate, clip_stride=1).windows
            for split in ("train", "test")
        ]
        assert splits[1][-1].start == length - 5
    assert len(measured) == 1
