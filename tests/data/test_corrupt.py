"""Files that cannot be read: named, skipped, counted, and too many of them stop the work."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from vqvideo import media
from vqvideo.data import readers
from vqvideo.data.clips import ClipDataset
from vqvideo.data.corrupt_files import TooManyCorruptError
from vqvideo.data.metadata import Item, write_metadata

SHAPE = (4, 16, 24)


@pytest.fixture
def folder(tmp_path, write_numbers) -> Path:
    """Five training files of eight frames, numbers 0 to 39, and one that is held out."""
    items = []
    for number in range(6):
        path = write_numbers(tmp_path / f"{number}.mp4", range(8 * number, 8 * number + 8))
        items.append(Item(path, "test" if number == 5 else "train", f"class {number}"))
    write_metadata(tmp_path, items)
    return tmp_path


def corrupt_files(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"{number}.mp4").write_text("this is no video at all")


def get_names(dataset: ClipDataset) -> list[str]:
    return [path.name for path, _ in dataset.skipped]


# -- seen when the files are measured -------------------------------------------------------


def test_files_that_are_no_videos_are_skipped_and_named(folder, read_numbers):
    corrupt_files(folder, 1, 3)
    dataset = ClipDataset(folder, SHAPE, max_corrupt=0.4)
    seen = [read_numbers(dataset[i]["x"])[0] for i in range(len(dataset))]
    assert seen == [0, 4, 16, 20, 32, 36]
    assert get_names(dataset) == ["1.mp4", "3.mp4"]
    for path, reason in dataset.skipped:
        assert str(path) in reason
        assert "cannot be read as video or audio" in reason
    assert ClipDataset(folder, SHAPE, split="test").skipped == []


def test_more_than_are_allowed_stop_with_the_first_few(folder):
    corrupt_files(folder, 0, 1, 2, 3, 4)
    message = (
        r"^4 of 5 files cannot be read, which is more than max_corrupt=0\.6 of them; repair or "
        r"remove them, or increase max_corrupt: .*0\.mp4 .*1\.mp4 .*2\.mp4 [^/]*; \.\.\.$"
    )
    with pytest.raises(media.MediaError, match=message):
        ClipDataset(folder, SHAPE, max_corrupt=0.6)


def test_one_in_a_hundred_may_be_corrupt_unless_said_otherwise(tmp_path, write_numbers):
    write_numbers(tmp_path / "000.mp4", range(4))
    for number in range(1, 111):
        shutil.copy(tmp_path / "000.mp4", tmp_path / f"{number:03d}.mp4")
    (tmp_path / "007.mp4").write_bytes(b"")
    dataset = ClipDataset(tmp_path, SHAPE)
    assert get_names(dataset) == ["007.mp4"]
    assert len(dataset) == 111 - 11 - 1
    (tmp_path / "008.mp4").write_bytes(b"")
    message = r"2 of 100 files .* max_corrupt=0\.01 of .*007\.mp4 is empty.*008\.mp4 is empty"
    with pytest.raises(media.MediaError, match=message):
        ClipDataset(tmp_path, SHAPE)


def test_a_file_that_was_mended_is_no_longer_skipped(folder, write_numbers):
    corrupt_files(folder, 1)
    assert len(ClipDataset(folder, SHAPE, max_corrupt=0.5)) == 8
    write_numbers(folder / "1.mp4", range(8))
    dataset = ClipDataset(folder, SHAPE)
    assert (len(dataset), dataset.skipped) == (10, [])
    corrupt_files(folder, 1)  # what is known of it must not be taken for what it is now
    dataset = ClipDataset(folder, SHAPE, max_corrupt=0.5)
    assert (len(dataset), get_names(dataset)) == (8, ["1.mp4"])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_allowed_is_a_share(folder, share):
    with pytest.raises(ValueError, match="max_corrupt must be a fraction from 0 to 1, got"):
        ClipDataset(folder, SHAPE, max_corrupt=share)


def test_where_all_may_be_corrupt_and_are_there_is_no_window(folder):
    corrupt_files(folder, 0, 1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"has no window of .* 6 files, 5 of them in this split"):
        ClipDataset(folder, SHAPE, max_corrupt=1)


# -- seen when a window is decoded ----------------------------------------------------------

REPLACED = [0, 4, 12, 12, 16, 20, 24, 0, 0, 0]  # numbers at the starts, of ten windows
CLASSES = [0, 0, 1, 1, 2, 2, 3, 0, 0, 0]


@pytest.fixture
def folder_with_corrupt_frames(folder, corrupt_frame) -> Path:
    """The first window of file 1 and the last of file 3 are lost, and both of file 4."""
    for file, frame in ((1, 2), (3, 7), (4, 1), (4, 4)):
        corrupt_frame(folder / f"{file}.mp4", frame)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_a_window_that_cannot_be_decoded_is_replaced_by_the_next_whoever_reads_it(
    folder_with_corrupt_frames, tmp_path_factory, read_numbers, num_workers, cached
):
    cache = tmp_path_factory.mktemp("decoded") if cached else None
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.6, cache_dir=cache)
    assert dataset.skipped == []  # the files list all their frames
    for order in (range(10), reversed(range(10)), [3, 2, 8]):
        order = list(order)
        loader = DataLoader(dataset, batch_size=1, sampler=order, num_workers=num_workers)
        samples = list(loader)
        assert [read_numbers(sample["x"][0])[0] for sample in samples] == [
            REPLACED[i] for i in order
        ]
        assert [int(sample["class_id"]) for sample in samples] == [CLASSES[i] for i in order]
    assert get_names(dataset) == ["1.mp4", "3.mp4", "4.mp4"]  # counted where the loader was made
    for _, reason in dataset.skipped:
        assert "cannot be decoded" in reason


def test_a_window_can_be_read_with_no_other_in_its_place(folder_with_corrupt_frames, read_numbers):
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.6)
    lost = [i for i in range(10) if REPLACED[i] != 4 * i]
    for index in range(10):
        if index in lost:
            with pytest.raises(media.MediaError, match="cannot be decoded"):
                dataset.read(index)
        else:
            assert read_numbers(dataset.read(index)["x"])[0] == 4 * index
    assert get_names(dataset) == ["1.mp4", "3.mp4", "4.mp4"]
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.2)
    for index, kind in ((2, media.MediaError), (7, TooManyCorruptError)):
        with pytest.raises(media.MediaError) as found:
            dataset.read(index)
        assert type(found.value) is kind


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_files_that_cannot_be_decoded_end_the_loading(
    folder_with_corrupt_frames, num_workers
):
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.4)
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=num_workers))
    for _ in range(7):
        next(batches)
    with pytest.raises(media.MediaError, match=r"3 of 5 files .*1\.mp4.*3\.mp4.*4\.mp4"):
        next(batches)  # window 7 is lost, and so is 8, which would take its place
    if num_workers:
        batches._shutdown_workers()  # the error keeps them from being collected at once


def test_files_of_both_kinds_count_together(folder_with_corrupt_frames):
    corrupt_files(folder_with_corrupt_frames, 0)
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.6)
    assert get_names(dataset) == ["0.mp4"]
    dataset[0]
    assert get_names(dataset) == ["0.mp4", "1.mp4"]
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.2)
    with pytest.raises(media.MediaError, match=r"2 of 5 files .*0\.mp4.*1\.mp4"):
        dataset[0]


def test_a_lost_window_is_tried_once_and_its_file_named_once_in_the_log(
    folder_with_corrupt_frames, caplog, monkeypatch
):
    dataset = ClipDataset(folder_with_corrupt_frames, SHAPE, max_corrupt=0.6)
    reads: list[Path] = []
    read_video = media.read_video
    monkeypatch.setattr(
        media, "read_video", lambda path, *a, **k: reads.append(path) or read_video(path, *a, **k)
    )
    with caplog.at_level(logging.WARNING):
        for expected in (10 + 4, 10):
            for index in range(10):
                dataset[index]
            assert len(reads) == expected
            reads.clear()
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 3
    for name, message in zip((1, 3, 4), named, strict=True):
        assert f"{name}.mp4 cannot be decoded" in message
        assert "skipped or replaced by others" in message


def test_where_no_window_can_be_decoded_there_is_nothing_to_take(tmp_path, write_numbers):
    path = write_numbers(tmp_path / "a.mp4", range(8))
    write_metadata(tmp_path, [Item(path, "test")])
    dataset = ClipDataset(tmp_path, SHAPE, split="test", max_corrupt=1)
    stamp = path.stat()
    path.write_bytes(b"x" * stamp.st_size)
    with pytest.raises(media.MediaError, match="none of the 2 windows can be decoded"):
        dataset[1]


def test_damaged_images_and_audio_are_replaced_too(tmp_path):
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        media.write_image(tmp_path / f"{number}.png", torch.full((3, 4, 6), number / 8))
        sound = torch.full((1, 50), number / 8)
        media.write_audio(tmp_path / "sounds" / f"{number}.wav", sound, 8000)
    images = [tmp_path / f"{number}.png" for number in range(4)]  # number 2 is held out
    images[1].write_bytes(images[1].read_bytes()[:-20])
    dataset = ClipDataset(images, (4, 6), max_corrupt=0.5)
    found = [float(dataset[i]["x"].mean()) for i in range(3)]
    assert found == pytest.approx([0, 3 / 8, 3 / 8], abs=0.01)
    sounds = ClipDataset(tmp_path / "sounds", (50,), sample_rate=8000, max_corrupt=0.5)
    (tmp_path / "sounds/3.wav").write_bytes(b"RIFF")
    assert [float(sounds[i]["x"].mean()) for i in range(3)] == [0, 1 / 8, 0]
    assert (get_names(dataset), get_names(sounds)) == (["1.png"], ["3.wav"])


def test_a_file_that_never_answers_ends_its_worker_and_is_named(folder, monkeypatch, capfd):
    def hang(path, *args, **kwargs):
        time.sleep(60)

    monkeypatch.setattr(media, "read_video", hang)
    monkeypatch.setattr(readers, "_TIMEOUT", 0.2)
    dataset = ClipDataset(folder, SHAPE)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(iter(DataLoader(dataset, num_workers=1, multiprocessing_context="fork")))
    assert "0.mp4 was not read within 0.2 s" in capfd.readouterr().err
