"""What is found below a folder, and what is said about the rest."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from vqvideo.data import folder_scan
from vqvideo.data.folder_scan import find_media_files
from vqvideo.data.metadata import Item, read_metadata, write_metadata


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def find_names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_media_files(folder, {".mp4"})]


def get_report(caplog, folder: Path) -> str:
    folder_scan._warn_once.cache_clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        find_media_files(folder, {".mp4"})
    return " / ".join(record.getMessage() for record in caplog.records)


def test_files_are_sorted_by_path_and_have_the_name_of_their_folder_as_class(folder):
    touch(*(folder / name for name in ("b/2.MP4", "b.mp4", "a/x/1.mp4", "a-b/1.mp4", "a/y.mp4")))
    names = ["a/x/1.mp4", "a/y.mp4", "a-b/1.mp4", "b/2.MP4", "b.mp4"]
    assert find_names(folder) == names
    classes = [item.class_name for item in read_metadata(folder)]
    assert classes == ["x", "a", "a-b", "b", None]


def test_linked_files_and_folders_are_read_like_others(folder, tmp_path):
    touch(tmp_path / "store/cat/1.mp4", tmp_path / "store/cat/deep/2.mp4", tmp_path / "3.mp4")
    (folder / "cat").symlink_to(tmp_path / "store/cat")
    (folder / "3.mp4").symlink_to("../3.mp4")
    assert find_names(folder) == ["3.mp4", "cat/1.mp4", "cat/deep/2.mp4"]
    (tmp_path / "again").symlink_to(folder)
    assert find_names(tmp_path / "again") == ["3.mp4", "cat/1.mp4", "cat/deep/2.mp4"]


def test_links_in_circles_end_and_no_folder_is_read_twice(folder, tmp_path, caplog):
    touch(folder / "z/1.mp4", tmp_path / "p/2.mp4", tmp_path / "q/3.mp4", tmp_path / "outside.mp4")
    (folder / "a").symlink_to("z")  # a folder of the data keeps its own name
    (folder / "z/up").symlink_to("..")
    (folder / "parent").symlink_to(tmp_path)
    (folder / "root").symlink_to("/")
    (folder / "self").symlink_to("self")
    (folder / "p").symlink_to(tmp_path / "p")
    (tmp_path / "p/q").symlink_to(tmp_path / "q")
    (tmp_path / "q/p").symlink_to(tmp_path / "p")
    assert find_names(folder) == ["p/2.mp4", "p/q/3.mp4", "z/1.mp4"]
    report = get_report(caplog, folder)
    assert "5 links to folders that are read already or contain the data" in report


def test_a_web_of_links_takes_no_time(folder):
    for number in range(12):
        touch(folder / f"{number}/{number}.mp4")
        for other in range(12):
            (folder / f"{number}/to{other}").symlink_to(f"../{other}")
    assert len(find_names(folder)) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
def test_what_is_left_out_is_counted_by_reason_in_one_line(folder, caplog, monkeypatch):
    touch(*(folder / name for name in ("a.mp4", "a.txt", "b.txt", "README", "c.npy", "._a.mp4")))
    touch(folder / ".cache/d.mp4", folder / ".DS_Store", folder / "x.a very long suffix \n")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "broken.mp4").symlink_to("nowhere")
    touch(folder / "closed/e.mp4")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_names(folder) == ["a.mp4"]
    assert get_report(caplog, folder) == (
        f"files of {folder} that are not read: 2 ending in .txt, 2 pipes, devices or broken links, "
        "1 hidden, 1 without a suffix, 1 ending in .npy, 1 with other suffixes, "
        "1 folders that cannot be read (Permission denied)"
    )


def test_nothing_is_said_where_nothing_is_left_out_and_nothing_twice(folder, caplog):
    touch(folder / "a.mp4", folder / "b/c.mp4")
    assert get_report(caplog, folder) == ""
    touch(folder / "a.txt")
    assert get_report(caplog, folder).endswith("not read: 1 ending in .txt")
    caplog.clear()
    find_media_files(folder, {".mp4"})
    assert not caplog.records
    for number in range(12):
        touch(folder / f"a.x{number}")
    assert get_report(caplog, folder).endswith(", 5 others")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_names_that_are_not_utf8_are_found_reported_and_written(folder, caplog):
    name = os.fsdecode(b"caf\xe9")
    touch(folder / name / f"{name}.mp4", folder / name / f"{name}.txt")
    expected = Item(folder / name / f"{name}.mp4", class_name=name)
    assert read_metadata(folder) == [expected]
    write_metadata(folder, [expected])
    assert read_metadata(folder) == [expected]
    inner = get_report(caplog, folder / name)
    assert inner.endswith("1 ending in .txt")
