"""What `metadata.jsonl` says is what the items are, and what it may not say is refused."""

import os
from pathlib import Path

import pytest

from vqvideo.data.metadata import METADATA_NAME, Item, Segment, read_metadata, write_metadata


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def write_lines(folder: Path, *lines: str) -> None:
    (folder / METADATA_NAME).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_every_key_of_a_line_reaches_its_item(tmp_path):
    touch(tmp_path, "b/two.mp4", "one.mp4", "one.npy")
    write_lines(
        tmp_path,
        '{"file": "b/two.mp4"}',
        "",
        '{"file": "one.mp4", "split": "test", "class": "K\u00f6ln\u2028", "speaker": "s1", '
        '"actions": "one.npy", "segments": [[0, 0.25, "SIL"], [0.25, 1e1, "\u00e6"]]}',
    )
    segments = (Segment(0.0, 0.25, "SIL"), Segment(0.25, 10.0, "\u00e6"))
    assert read_metadata(tmp_path) == [
        Item(tmp_path / "b/two.mp4", "train", None, None, None),
        Item(tmp_path / "one.mp4", "test", "K\u00f6ln\u2028", "s1", tmp_path / "one.npy", segments),
    ]


def test_written_items_are_read_back_and_no_other_file_is_left(tmp_path):
    touch(tmp_path, "z.mp4", "a/b.mp4", "z.npy")
    items = [
        Item(tmp_path / "z.mp4", "test", speaker="s\u00e9", actions=tmp_path / "z.npy"),
        Item(tmp_path / "a/b.mp4", class_name="a\nb", segments=(Segment(0.1, 1 / 3, "\u0259"),)),
    ]
    assert write_metadata(tmp_path, items) == tmp_path / METADATA_NAME
    assert read_metadata(tmp_path) == items
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", METADATA_NAME, "z.mp4", "z.npy"]


def test_a_failed_write_leaves_the_old_table_alone(tmp_path):
    touch(tmp_path, "in/a.mp4", "out.mp4")
    folder = tmp_path / "in"
    before = write_metadata(folder, [Item(folder / "a.mp4")]).read_bytes()
    for outside in (tmp_path / "out.mp4", folder / ".." / "out.mp4"):
        with pytest.raises(ValueError, match=r"expected a path inside .*in, got .*out\.mp4"):
            write_metadata(folder, [Item(folder / "a.mp4"), Item(outside)])
    assert (folder / METADATA_NAME).read_bytes() == before
    assert len(list(folder.iterdir())) == 2


def test_without_a_table_the_sub_folder_is_the_class(tmp_path):
    touch(tmp_path, "b.MP4", "walk/x.gif", "walk/deep/y.mkv", "a.mp4", "a.txt", ".cache/z.mp4")
    assert read_metadata(tmp_path) == [
        Item(tmp_path / "a.mp4"),
        Item(tmp_path / "b.MP4"),
        Item(tmp_path / "walk/deep/y.mkv", class_name="deep"),
        Item(tmp_path / "walk/x.gif", class_name="walk"),
    ]


def test_the_suffixes_to_look_for_are_the_callers_choice(tmp_path):
    touch(tmp_path, "a.mp4", "b.wav")
    assert read_metadata(tmp_path, suffixes=[".WAV"]) == [Item(tmp_path / "b.wav")]


def test_a_folder_that_does_not_exist_is_not_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere' does not exist"):
        read_metadata(tmp_path / "nowhere")


def test_a_relative_folder_gives_paths_relative_to_the_same_place(tmp_path, monkeypatch):
    touch(tmp_path, "data/a.mp4")
    write_lines(tmp_path / "data", '{"file": "./x/../a.mp4"}')
    monkeypatch.chdir(tmp_path)
    assert read_metadata("data") == [Item(Path("data/a.mp4"))]
    monkeypatch.chdir(tmp_path / "data")
    assert read_metadata(".") == [Item(Path("a.mp4"))]


def test_segments_may_leave_gaps_and_there_may_be_none(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    write_lines(
        tmp_path,
        '{"file": "a.wav", "segments": [[0.5, 1, "AH"], [2, 3, "AH"], [3, 3.5, "T"]]}',
        '{"file": "b.wav", "segments": []}',
    )
    a, b = read_metadata(tmp_path)
    assert a.segments == (Segment(0.5, 1, "AH"), Segment(2, 3, "AH"), Segment(3, 3.5, "T"))
    assert b.segments == ()
    assert all(type(time) is float for segment in a.segments for time in segment[:2])


EACH_SEGMENT = (
    r"expected each of 'segments' to be \[start_seconds, end_seconds, \"label\"\] with finite "
    "times from 0 on and a label, got "
)


@pytest.mark.parametrize(
    ("segments", "complaint"),
    [
        ('"AH"', "expected 'segments' to be a list, got 'AH'"),
        ("null", "expected 'segments' to be a list, got None"),
        ("[0, 1, 2]", rf"{EACH_SEGMENT}0"),
        ('[[0, 1, "A"], [1, "A"]]', rf"{EACH_SEGMENT}\[1, 'A'\]"),
        ('[[0, 1, "A", 2]]', EACH_SEGMENT),
        ('[[0, 1, ""]]', EACH_SEGMENT),
        ("[[0, 1, 7]]", EACH_SEGMENT),
        ('[["0", 1, "A"]]', EACH_SEGMENT),
        ('[[false, true, "A"]]', EACH_SEGMENT),
        ('[[-0.1, 1, "A"]]', EACH_SEGMENT),
        ('[[0, NaN, "A"]]', EACH_SEGMENT),
        ('[[0, Infinity, "A"]]', EACH_SEGMENT),
        (f'[[0, 1{"0" * 400}, "A"]]', EACH_SEGMENT),
        ('[[1, 1, "A"]]', r"to end after it starts, got \[1, 1, 'A'\]"),
        ('[[2, 1, "A"]]', r"to end after it starts, got \[2, 1, 'A'\]"),
        (
            '[[0, 1, "A"], [0.9, 2, "B"]]',
            r"in order of time and without overlap, but \[0.9, 2, 'B'\] starts before "
            r"\[0.0, 1.0, 'A'\] ends",
        ),
        ('[[1, 2, "A"], [0, 1, "B"]]', "in order of time and without overlap"),
    ],
)
def test_wrong_segments_are_refused_by_file_and_line_number(tmp_path, segments, complaint):
    touch(tmp_path, "a.wav", "b.wav")
    write_lines(tmp_path, '{"file": "a.wav"}', f'{{"file": "b.wav", "segments": {segments}}}')
    with pytest.raises(ValueError, match=rf"{METADATA_NAME}, line 2: .*{complaint}"):
        read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"file": "a.mp4"', 'expected one JSON object, got \'{"file": "a.mp4"\''),
        ('["a.mp4"]', "expected one JSON object"),
        ('{"file": "a.mp4", "file": "b.mp4"}', "duplicate key"),
        ('{"file": "b.mp4", "label": "x"}', "unknown key 'label'; expected one of: file, split, c"),
        ('{"split": "test"}', "expected the key 'file', got only: split"),
        ("{}", "expected the key 'file', got only: none"),
        ('{"file": "b.mp4", "class": 3}', "expected 'class' to be a non-empty string, got 3"),
        ('{"file": "b.mp4", "speaker": ""}', "expected 'speaker' to be a non-empty string, got ''"),
        ('{"file": "b.mp4", "split": "val"}', "to be 'train' or 'test', got 'val'"),
        ('{"file": "gone.mp4"}', "expected 'file' to name a file below .*, got 'gone.mp4'"),
        ('{"file": "."}', "expected 'file' to name a file below"),
        ('{"file": "b.mp4", "actions": "b.npy"}', "expected 'actions' to name a file .*'b.npy'"),
        ('{"file": "../outside.mp4"}', "to stay inside the folder, got '../outside.mp4'"),
        ('{"file": "sub/../../outside.mp4"}', "to stay inside the folder"),
        ('{"file": "/etc/hosts"}', "to stay inside the folder, got '/etc/hosts'"),
        ('{"file": "b.mp4", "actions": "../outside.mp4"}', "'actions' to stay inside the folder"),
        ('{"file": "./a.mp4"}', "expected each file once, got 'a.mp4' again .first in line 1"),
    ],
)
def test_a_wrong_line_is_refused_by_file_and_line_number(tmp_path, line, complaint):
    folder = tmp_path / "data"
    touch(tmp_path, "outside.mp4", "data/a.mp4", "data/b.mp4", "data/sub/c.mp4")
    write_lines(folder, '{"file": "a.mp4"}', line)
    with pytest.raises(ValueError, match=rf"{METADATA_NAME}, line 2: .*{complaint}"):
        read_metadata(folder)


def test_bytes_that_are_not_utf8_are_refused_by_file_line_and_position(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    line = b'{"file": "b.mp4", "class": "caf\xe9"}\n'
    (tmp_path / METADATA_NAME).write_bytes(b'{"file": "a.mp4"}\n' + line)
    message = rf"{METADATA_NAME}, line 2: expected UTF-8, got the byte 0xe9 at position 31 of the l"
    with pytest.raises(ValueError, match=message):
        read_metadata(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_called_a_file(tmp_path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(
        ValueError, match=r"'.*a\.mp4' is a file, expected a folder; give the folder"
    ):
        read_metadata(tmp_path / "a.mp4")


@pytest.mark.skipif(os.name == "nt", reason="has no named pipes in folders")
@pytest.mark.parametrize(
    "make",
    [Path.mkdir, lambda path: os.mkfifo(path), lambda path: path.symlink_to("nowhere")],
    ids=["folder", "pipe", "link"],
)
def test_what_is_no_file_in_the_place_of_the_table_is_refused_by_name(tmp_path, make):
    touch(tmp_path, "a.mp4")
    make(tmp_path / METADATA_NAME)
    with pytest.raises(ValueError, match=rf"{METADATA_NAME} is a folder, a pipe or a broken link"):
        read_metadata(tmp_path)


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "line",
    [
        LONG,
        f'["{LONG}"]',
        f'{{"file": "{LONG}"}}',
        f'{{"file": "../{LONG}"}}',
        f'{{"{LONG}": 1}}',
        f'{{"file": "a.mp4", "split": "{LONG}"}}',
        f'{{"file": "a.mp4", "class": ["{LONG}"]}}',
        f'{{"file": "a.mp4", "segments": "{LONG}"}}',
        f'{{"file": "a.mp4", "segments": [["{LONG}", 1, "A"]]}}',
        f'{{"file": "a.mp4", "segments": [[1, 0, "{LONG}"]]}}',
        f'{{"file": "a.mp4", "segments": [[1, 2, "{LONG}"], [0, 1, "{LONG}"]]}}',
        "[" * 100_000,
        '{"file": ' * 100_000,
        '{"file": "a.mp4", "segments": ' + "[" * 900 + "]" * 900 + "}",
        '{"file": "a\\u0000.mp4"}',
        '{"file": "a\\ud800.mp4"}',
        f'{{"file": {"1" * 5000}}}',
    ],
    ids=range(17),
)
def test_a_message_stays_short_however_long_the_line_is(tmp_path, line):
    touch(tmp_path, "a.mp4")
    write_lines(tmp_path, '{"file": "a.mp4"}', line)
    with pytest.raises(ValueError, match=rf"{METADATA_NAME}, line 2: ") as caught:
        read_metadata(tmp_path)
    assert len(str(caught.value)) < 1500
