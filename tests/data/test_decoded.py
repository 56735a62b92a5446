"""The decoded cache gives the samples that decoding gives, and never those of another file."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vqvideo import media
from vqvideo.data.clips import ClipDataset
from vqvideo.data.decoded_cache import DecodedCache
from vqvideo.data.readers import VideoReader


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "new" / "cache"


@pytest.fixture
def forbid_decoding(monkeypatch):
    """From when it is called, no media file can be decoded."""

    def forbid() -> None:
        def decode(*args, **kwargs):
            raise AssertionError("a file is decoded")

        for name in ("read_video", "read_image", "read_audio"):
            monkeypatch.setattr(media, name, decode)

    return forbid


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Noise: a file of 70 frames, more than are decoded at a time, and a short one."""
    folder = tmp_path_factory.mktemp("noise")
    generator = torch.Generator().manual_seed(0)
    for name, length in (("a", 70), ("b", 9)):
        noise = torch.rand(3, length, 10, 18, generator=generator) * 2 - 1
        media.write_video(folder / f"{name}.mp4", noise, fps=10)
    return folder


VIDEOS = {
    "as they are": {"shape": (4, 10, 18)},
    "smaller, cut": {"shape": (5, 4, 6)},
    "larger, padded": {"shape": (3, 12, 30), "fit": "pad"},
    "slower": {"shape": (4, 10, 18), "fps": 4.0},
    "quicker": {"shape": (4, 10, 18), "fps": 25.0},
}


@pytest.mark.parametrize("name", VIDEOS)
def test_clips_are_the_same_bits_with_and_without_a_cache(name, video, cache, forbid_decoding):
    how = {**VIDEOS[name], "clip_stride": 3}
    expected = [sample["x"] for sample in ClipDataset(video, **how)]
    assert len(expected) >= 7
    cached = ClipDataset(video, **how, cache_dir=cache)
    for _ in range(2):
        for index in reversed(range(len(cached))):
            x = cached[index]["x"]
            assert x.is_contiguous()
            assert torch.equal(x, expected[index])
        forbid_decoding()
    again = ClipDataset(video, **how, cache_dir=cache)
    assert torch.equal(again[2]["x"], expected[2])


def test_images_and_audio_are_the_same_bits_too(tmp_path, cache, forbid_decoding):
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        image = torch.rand(3, 9, 7, generator=generator) * 2 - 1
        media.write_image(tmp_path / f"{number}.png", image)
        sound = torch.rand(1, 500, generator=generator) - 0.5
        media.write_audio(tmp_path / f"{number}.wav", sound, 8000)
    ways = [{"shape": (6, 4)}, {"shape": (40,), "clip_stride": 13, "sample_rate": 6000}]
    expected = [[sample["x"] for sample in ClipDataset(tmp_path, **way)] for way in ways]
    for _ in range(2):
        for way, samples in zip(ways, expected, strict=True):
            cached = [sample["x"] for sample in ClipDataset(tmp_path, **way, cache_dir=cache)]
            assert all(torch.equal(a, b) for a, b in zip(cached, samples, strict=True))
        again = [ClipDataset(tmp_path, **way, cache_dir=cache) for way in ways]
        forbid_decoding()
    for dataset, samples in zip(again, expected, strict=True):
        assert torch.equal(dataset[1]["x"], samples[1])


def test_a_cache_is_filled_ahead_on_demand(video, cache, forbid_decoding):
    dataset = ClipDataset(video, (4, 10, 18), cache_dir=cache)
    expected = ClipDataset(video, (4, 10, 18))[3]["x"]
    seen: list[tuple[int, int]] = []
    dataset.fill_cache(lambda *counts: seen.append(counts))
    assert seen == [(1, 1)]
    forbid_decoding()
    assert torch.equal(dataset[3]["x"], expected)
    dataset.fill_cache()  # nothing is left to do
    with pytest.raises(ValueError, match=r"there is no cache to fill; .* cache_dir=FOLDER"):
        ClipDataset(video, (4, 10, 18)).fill_cache()


def test_filling_a_cache_counts_damaged_files_and_continues(
    tmp_path, cache, write_numbers, read_numbers, corrupt_frame
):
    paths = [write_numbers(tmp_path / f"{n}.mp4", range(8 * n, 8 * n + 8)) for n in range(4)]
    corrupt_frame(paths[0], 6)
    dataset = ClipDataset(paths, (4, 16, 24), cache_dir=cache, max_corrupt=0.5)
    seen: list[tuple[int, int]] = []
    dataset.fill_cache(lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path, _ in dataset.skipped] == ["0.mp4"]
    assert read_numbers(dataset[0]["x"]) == [0, 1, 2, 3]  # what is whole of it is still read
    assert len(list(cache.iterdir())) == 2
    with pytest.raises(media.MediaError, match=r"1 of 3 files .*0\.mp4"):
        ClipDataset(paths, (4, 16, 24), cache_dir=cache, max_corrupt=0.3).fill_cache()


def test_a_file_of_the_cache_says_what_it_holds(tmp_path, cache, write_numbers, read_numbers):
    path = write_numbers(tmp_path / "a.mp4", range(20))
    reader = VideoReader((8, 12), "pad", 4.0)
    DecodedCache(cache, reader).fill(path, 10)
    (file,) = cache.iterdir()
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["vqvideo_decoded"])
        frames = opened.get_tensor("frames")
    assert about["source"] == str(path)
    assert (about["num_bytes"], about["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert about["reader"] == "VideoReader(size=(8, 12), fit='pad', fps=4.0)"
    assert (frames.shape, frames.dtype) == ((10, 3, 8, 12), torch.uint8)
    assert read_numbers(media.from_uint8(frames.movedim(0, 1))) == list(range(0, 20, 2))


def test_other_sizes_rates_and_fits_are_other_files(tmp_path, cache, write_numbers):
    path = write_numbers(tmp_path / "a.mp4", range(20))
    readers = [
        VideoReader((8, 12)),
        VideoReader((8, 10)),
        VideoReader((8, 10), "pad"),
        VideoReader((8, 10), "pad", 8.0),
        VideoReader((8, 10), "pad", 4.0),
    ]
    for number, reader in enumerate(readers, start=1):
        length = 10 if reader.fps == 4 else 20
        decoded = DecodedCache(cache, reader)
        assert torch.equal(decoded.read(path, length, 3, 9), reader.read(path, 3, 9))
        assert len(list(cache.iterdir())) == number


@pytest.mark.parametrize("change", ["frames", "time"])
def test_a_source_that_changed_is_decoded_anew(
    tmp_path, cache, write_numbers, read_numbers, change
):
    path = write_numbers(tmp_path / "a.mp4", range(8))
    decoded = DecodedCache(cache, VideoReader((16, 24)))
    decoded.read(path, 8, 0, 4)
    (file,) = cache.iterdir()
    inode, before = file.stat().st_ino, path.stat().st_mtime_ns
    write_numbers(path, range(40, 48))
    later = before + 1 if change == "time" else before
    if change == "frames":
        path.write_bytes(path.read_bytes() + b"\0\0\0\x08free")
    os.utime(path, ns=(later, later))
    for reader_process in (decoded, DecodedCache(cache, VideoReader((16, 24)))):
        assert read_numbers(reader_process.read(path, 8, 0, 4)) == [40, 41, 42, 43]
    assert [entry.name for entry in cache.iterdir()] == [file.name]
    assert file.stat().st_ino != inode


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"\xff" * len(data),
        lambda data: data.replace(b'"frames"', b'"flames"'),
    ],
    ids=["one byte short", "header cut", "empty", "overwritten", "renamed"],
)
def test_a_damaged_file_of_the_cache_is_made_anew(
    tmp_path, cache, write_numbers, read_numbers, damage
):
    path = write_numbers(tmp_path / "a.mp4", range(8))
    decoded = DecodedCache(cache, VideoReader((16, 24)))
    decoded.fill(path, 8)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert read_numbers(decoded.read(path, 8, 4, 8)) == [4, 5, 6, 7]
    assert file.read_bytes() == whole


# -- no room --------------------------------------------------------------------------------


@contextmanager
def limit_file_size(num_bytes: int) -> Iterator[None]:
    """The system refuses to write more to a file, as on a disk that is full midway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_is_named_and_keeps_no_half_file(video, cache):
    dataset = ClipDataset(video, (4, 10, 18), cache_dir=cache)
    message = rf"a\.mp4 takes 0\.0 MB when decoded, .*free space.*; free some.*{cache}"
    with limit_file_size(30_000), pytest.raises(OSError, match=message) as caught:
        dataset[0]
    assert caught.value.errno == errno.EFBIG
    assert list(cache.iterdir()) == []
    dataset[0]
    assert len(list(cache.iterdir())) == 1


def test_a_disk_without_room_is_seen_before_anything_is_decoded_to_it(video, cache, monkeypatch):
    free = 70 * 3 * 10 * 18  # the frames, but not the header
    usage = shutil.disk_usage(video)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    dataset = ClipDataset(video, (4, 10, 18), cache_dir=cache)
    with pytest.raises(OSError, match=r"a\.mp4 takes .* more than the free space") as caught:
        dataset[0]
    assert caught.value.errno == errno.ENOSPC
    assert list(cache.iterdir()) == []


# -- several processes ----------------------------------------------------------------------


def _read_together(barrier, paths, cache, expected, results):
    torch.set_num_threads(1)  # as in a worker process: a fork has none of torch's other threads
    decoded = DecodedCache(cache, VideoReader((10, 18)))
    barrier.wait()
    results.put(
        all(
            torch.equal(decoded.read(path, length, 2, 6), x)
            for (path, length), x in zip(paths, expected, strict=True)
        )
    )


def test_two_processes_that_fill_at_once_do_no_harm(tmp_path, video, cache):
    paths = []
    for number in range(4):
        paths.append((tmp_path / f"{number}.mp4", 70))
        shutil.copy(video / "a.mp4", paths[-1][0])
    expected = [VideoReader((10, 18)).read(path, 2, 6) for path, _ in paths]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_read_together, args=(barrier, paths, cache, expected, results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [True, True, True]
    for process in processes:
        process.join()
    assert len(list(cache.iterdir())) == 4
