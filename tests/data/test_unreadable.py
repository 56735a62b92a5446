"""Whatever happens to a file after it was listed: it is named, counted and skipped, never fatal."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo import media
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.encode_shard import Shard, Unit, encode_shard
from vqvideo.data import clips, decoded_cache
from vqvideo.data.actions import load_actions
from vqvideo.data.clips import ClipDataset
from vqvideo.data.codes import CodeFile
from vqvideo.data.corrupt_files import TooManyCorruptError
from vqvideo.data.items import list_items
from vqvideo.data.metadata import Item, write_metadata
from vqvideo.recipes.speech.utterances import read_utterances

OPTIONS = {
    "mp4": {"shape": (4, 16, 24)},
    "gif": {"shape": (16, 24)},
    "png": {"shape": (16, 24)},
    "wav": {"shape": (40,), "sample_rate": 8000},
}
CACHED = [False, pytest.param(True, marks=pytest.mark.slow)]
STEPS = {"mp4": 4, "gif": 4, "png": 1, "wav": 40}  # of a file, one window of all but the GIF


def write(path: Path, share: float, steps: int | None = None) -> None:
    """Write a file of about this brightness or level; no two frames are the same."""
    path.write_bytes(make_file(path.suffix, float(share), steps or STEPS[path.suffix[1:]]))


@cache
def make_file(suffix: str, share: float, steps: int) -> bytes:
    frames = (share + torch.arange(steps) / 50).view(-1, 1, 1).expand(3, -1, 16, 24)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        if suffix == ".mp4":
            media.write_video(path, frames, 8)
        elif suffix == ".gif":
            media.write_gif(path, frames, 10)
        elif suffix == ".png":
            media.write_image(path, frames[:, 0])
        else:
            media.write_audio(path, share + torch.arange(steps)[None] / 1000, 8000)
        return path.read_bytes()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


FAULTS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("nothing to see\n" * 99),
    "folder": replace_by_folder,
    "pipe": replace_by_pipe,
    "link": replace_by_link_to_itself,
}


@pytest.fixture(params=OPTIONS)
def paths(request, tmp_path) -> list[Path]:
    """Three files of one medium, of values that tell them apart."""
    paths = [tmp_path / f"{number}.{request.param}" for number in range(3)]
    for number, path in enumerate(paths):
        write(path, number / 2 - 0.5)
    return paths


def build_dataset(paths: list[Path], **options) -> ClipDataset:
    """A data set of all files: for lists, every tenth file would be held out."""
    folder = paths[0].parent
    write_metadata(folder, [Item(path, "test") for path in paths])
    return ClipDataset(folder, split="test", **OPTIONS[paths[0].suffix[1:]], **options)


def check_second_is_replaced(dataset: ClipDataset, paths: list[Path]) -> None:
    values = [round(float(dataset[i]["x"].mean()) * 2) / 2 for i in range(len(dataset))]
    per_file = len(dataset) // 3
    assert values == [-0.5] * per_file + [0.5] * 2 * per_file
    ((skipped, reason),) = dataset.skipped
    assert skipped == paths[1]
    assert str(paths[1]) in reason


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
@pytest.mark.parametrize("cached", CACHED)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_changes_after_it_was_measured_is_skipped(fault, cached, paths, tmp_path):
    options = {"cache_dir": tmp_path / "cache"} if cached else {}
    dataset = build_dataset(paths, max_corrupt=0.4, **options)
    strict = build_dataset(paths, max_corrupt=0, **options)
    FAULTS[fault](paths[1])
    check_second_is_replaced(dataset, paths)
    index = len(dataset) // 3
    with pytest.raises(media.MediaError, match=paths[1].name):
        dataset.read(index)
    with pytest.raises(TooManyCorruptError, match=rf"1 of 3 files .*{paths[1].name}"):
        strict[index]
    if cached:
        dataset.fill_cache()


@pytest.mark.parametrize("fault", ["deleted", "folder", "emptied"])
def test_a_file_that_changes_between_listing_and_measuring_is_skipped(fault, paths, monkeypatch):
    measure_lengths = clips.measure_lengths

    def measure_damaged(*args, **kwargs):
        FAULTS[fault](paths[1])
        return measure_lengths(*args, **kwargs)

    monkeypatch.setattr(clips, "measure_lengths", measure_damaged)
    dataset = build_dataset(paths, max_corrupt=0.4)
    if paths[1].suffix == ".png":  # images are opened when they are read, unless they are gone
        assert len(dataset) == (2 if fault == "deleted" else 3)
        values = {round(float(dataset[i]["x"].mean()) * 2) / 2 for i in range(len(dataset))}
        assert values == {-0.5, 0.5}
    else:
        assert len(dataset) * STEPS[paths[0].suffix[1:]] in (8, 320, 80, 32)
    assert [path for path, _ in dataset.skipped] == [paths[1]]


@pytest.mark.parametrize("cached", CACHED)
@pytest.mark.parametrize("kind", ["mp4", "gif", "wav"])
def test_a_file_that_has_become_shorter_is_skipped_and_one_that_is_longer_is_read(
    kind, cached, tmp_path
):
    paths = [tmp_path / f"{number}.{kind}" for number in range(3)]
    for number, path in enumerate(paths):
        write(path, number / 2 - 0.5)
    options = {"cache_dir": tmp_path / "cache"} if cached else {}
    dataset = build_dataset(paths, max_corrupt=0.4, **options)
    write(paths[0], -0.5, 2 * STEPS[kind])
    write(paths[1], 0.0, STEPS[kind] - 1)
    if kind == "gif":  # each frame is a window, and the first ones are still there
        last = 2 * len(dataset) // 3 - 1
        assert float(dataset[last]["x"].mean()) == pytest.approx(0.5, abs=0.1)
        assert [path for path, _ in dataset.skipped] == [paths[1]]
    else:
        check_second_is_replaced(dataset, paths)


@pytest.mark.parametrize("cached", CACHED)
@pytest.mark.parametrize(
    "paths",
    ["png", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OPTIONS if kind != "png")],
    indirect=True,
)
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, os.strerror(errno.EIO)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
        RuntimeError("AVIF"),
        MemoryError(),
        ValueError("Decompressed data too large"),
        Image.DecompressionBombError("too many pixels"),
        SyntaxError("broken PNG file"),
        IndexError("frame 3 is out of range"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        RecursionError(),
        AssertionError(),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_reading_raises_names_the_file_and_skips_it(
    error, cached, paths, tmp_path, monkeypatch
):
    options = {"cache_dir": tmp_path / "cache"} if cached else {}
    dataset = build_dataset(paths, max_corrupt=0.4, **options)
    for name in ("read_video", "read_image", "read_audio"):
        read = getattr(media, name)

        def fail(path, *args, read=read, **kwargs):
            if Path(path) == paths[1]:
                raise error
            return read(path, *args, **kwargs)

        monkeypatch.setattr(media, name, fail)
    check_second_is_replaced(dataset, paths)
    assert (str(error) or type(error).__name__) in dataset.skipped[0][1]


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "EIO"), PermissionError(13, "EACCES")], ids=["eio", "eacces"]
)
def test_a_disk_that_fails_while_a_file_is_checked_is_a_media_error(error, paths, monkeypatch):
    def fail(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(Path, "open", fail)
    read = {"mp4": media.read_video, "gif": media.probe, "png": media.read_image}.get(
        paths[0].suffix[1:], media.read_audio
    )
    with pytest.raises(media.MediaError, match=rf"{paths[0].name} cannot be read \(E"):
        read(paths[0])


def test_a_cached_file_that_cannot_be_read_is_decoded_again(paths, tmp_path, monkeypatch):
    dataset = build_dataset(paths, cache_dir=tmp_path / "cache")
    expected = [sample["x"] for sample in dataset]

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(decoded_cache, "safe_open", fail)
    assert all(torch.equal(sample["x"], x) for sample, x in zip(dataset, expected, strict=True))
    assert dataset.skipped == []


def test_a_cache_that_cannot_be_written_is_no_fault_of_a_file(paths, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder belongs")
    dataset = build_dataset(paths, cache_dir=tmp_path / "cache", max_corrupt=1)
    with pytest.raises(OSError, match="cache"):
        dataset[0]
    assert dataset.skipped == []


def test_videos_too_short_for_one_frame_at_a_low_rate_are_not_cached(tmp_path):
    write(tmp_path / "0.mp4", 0, 1)
    write(tmp_path / "1.mp4", 0)
    write_metadata(tmp_path, [Item(tmp_path / f"{number}.mp4", "test") for number in range(2)])
    shape, cache_dir = (1, 16, 24), tmp_path / "cache"
    dataset = ClipDataset(tmp_path, shape, split="test", fps=0.005, cache_dir=cache_dir)
    dataset.fill_cache()
    assert (len(dataset), dataset.skipped, len(list(cache_dir.iterdir()))) == (1, [], 1)


@pytest.mark.parametrize("fault", [*FAULTS, "too short", "strings", "archive"])
def test_actions_that_cannot_be_read_skip_their_file(fault, tmp_path):
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    items = []
    for number, path in enumerate(paths):
        write(path, number / 2 - 0.5)
        np.save(path.with_suffix(".npy"), np.arange(3))
        items.append(Item(path, "test", actions=path.with_suffix(".npy")))
    write_metadata(tmp_path, items)
    dataset = ClipDataset(tmp_path, (4, 16, 24), split="test", max_corrupt=0.4)
    actions, archive = items[1].actions, tmp_path / "archive.npz"
    others = {
        "too short": lambda: np.save(actions, np.arange(2)),
        "strings": lambda: np.save(actions, np.array(["a", "b", "c"])),
        "archive": lambda: np.savez(archive, np.arange(3)) or archive.replace(actions),
    }
    others.get(fault, lambda: FAULTS[fault](actions))()
    check_second_is_replaced(dataset, paths)
    assert str(actions) in dataset.skipped[0][1]
    with pytest.raises((ValueError, FileNotFoundError), match=r"1\.npy"):
        load_actions(actions) if fault != "too short" else dataset.read(1)


def test_an_array_that_promises_more_memory_than_there_is_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    data = (tmp_path / "a.npy").read_bytes()
    for shape in (b"(9999999999999,)", b"(3, 999999999999)"):
        changed = data.replace(b"(3,), }" + b" " * (len(shape) - 4), shape + b", }")
        assert len(changed) == len(data)
        assert changed != data
        (tmp_path / "a.npy").write_bytes(changed)
        with pytest.raises(ValueError, match=r"a\.npy must be a \.npy file of integers"):
            load_actions(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.arange(3).astype("timedelta64[s]"))
    with pytest.raises(ValueError, match=r"got timedelta64\[s\] \[3\]"):
        load_actions(tmp_path / "a.npy")


def test_utterances_that_cannot_be_read_are_named(tmp_path):
    write(tmp_path / "0.wav", 0)
    items = list_items(tmp_path, (".wav",))
    (tmp_path / "0.wav").unlink()
    with pytest.raises(media.MediaError, match=r"0\.wav does not exist"):
        next(read_utterances(items, sample_rate=8000))


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        "deleted",
        *(pytest.param(name, marks=pytest.mark.slow) for name in FAULTS if name != "deleted"),
    ],
)
def test_encoding_skips_files_and_actions_that_cannot_be_read(
    fault, windows, tmp_path, monkeypatch
):
    import vqvideo
    from vqvideo.commands import encode_shard as module

    net = {"name": "patchify", "widths": (4, 4), "num_blocks": (1, 1)}
    generator = vqvideo.build("video", encoder=net, decoder=net, prior={"width": 8})
    monkeypatch.setattr(module, "load_cached_model", lambda *args: generator.eval())
    units = []
    for number in range(5):
        path = tmp_path / f"{number}.mp4"
        write(path, 0, 16)
        np.save(path.with_suffix(".npy"), np.arange(15))
        item = Item(path, actions=path.with_suffix(".npy"))
        units.append(Unit(item=item, source=path.name, length=16 if windows else None))
    FAULTS[fault](units[1].item.path)
    FAULTS[fault](units[3].item.actions)
    shard = Shard(
        path=tmp_path / "codes-0.safetensors",
        units=tuple(units),
        model="video",
        size=(16, 24),
        options=EncodeOptions(device="cpu"),
    )
    encode_shard(shard, lambda count: None)
    file = CodeFile(shard.path)
    assert [clip.source for clip in file.clips] == ["0.mp4", "2.mp4", "4.mp4"]
    assert [clip.grid for clip in file.clips] == [(4, 4, 6)] * 3
    assert sorted(file.corrupt) == ["1.mp4", "3.mp4"]
    assert "3.npy" in file.corrupt["3.mp4"]
