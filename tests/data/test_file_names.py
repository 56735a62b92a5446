"""Names of files that come from elsewhere: below the folder, by the rules of every system."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from vqvideo.commands.decode import _build_target_paths
from vqvideo.data import file_names
from vqvideo.data.codes import CodeClip, CodeFileError
from vqvideo.data.file_names import check_file_name, check_file_names, is_case_sensitive

LEADS_OUT = [
    *("../x", "../../x.mp4", "a/../x", "a/../../x", "..", "/x", "//host/share/x", "/", "a/.."),
    *("..\\..\\x.mp4", "a\\..\\x", "a/..\\x", "..\\x", "\\x", "\\\\host\\share\\x.mp4"),
    *("C:\\x.mp4", "C:x.mp4", "c:/x", "C:", "\\\\?\\C:\\x", "\\\\.\\NUL", "\\??\\C:\\x"),
]
INVALID = ["", ".", "./", "a\0b", "\0", "\ud800x", "a" * 256, "ä" * 128, "a/" * 2100 + "x", "./."]
INVALID_ON_WINDOWS = [
    *("CON", "con.mp4", "a/NUL", "nul.tar.gz", "COM1.mkv", "lpt9", "COM¹", "aux .mp4", "CONIN$"),
    *("x.", "x ", "a./x", "a /x", "...", "10:00.mp4", "xy:stream", "a\\b.mp4", "a?", "a*", 'a"'),
    *("a<b", "a>b", "a|b", "a\nb", "a\x1fb"),
]
VALID = [
    *("a.mp4", "b/c.mp4", "..a", "a..b", "a/...b", "ü/日本.mkv", ".hidden", "console.mp4", "com10"),
    *("COM", "a" * 255, "a b/c", "-x", "~/x", "%2e%2e/x", "$HOME", "x-\udcff.mp4", "anul", "nul_"),
]


@pytest.mark.parametrize("is_windows", [False, True])
@pytest.mark.parametrize("name", LEADS_OUT, ids=range(len(LEADS_OUT)))
def test_names_that_lead_out_on_any_system_are_refused_on_every_system(name, is_windows):
    with pytest.raises(ValueError, match="leads out of the folder"):
        check_file_name(name, is_windows=is_windows)


@pytest.mark.parametrize("name", INVALID, ids=range(len(INVALID)))
def test_names_that_no_system_can_store_are_refused(name):
    with pytest.raises(ValueError, match=r"path") as raised:
        check_file_name(name, is_windows=False)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", INVALID_ON_WINDOWS, ids=range(len(INVALID_ON_WINDOWS)))
def test_names_that_mean_another_file_on_windows_are_refused_there(name):
    check_file_name(name, is_windows=False)
    with pytest.raises(ValueError, match="Windows cannot store a file under the path"):
        check_file_name(name, is_windows=True)


@pytest.mark.parametrize("is_windows", [False, True])
@pytest.mark.parametrize("name", VALID, ids=range(len(VALID)))
def test_other_names_are_taken_and_lie_below_the_folder(name, is_windows):
    check_file_name(name, is_windows=is_windows)
    for kind, folder in ((PurePosixPath, "/out"), (PureWindowsPath, "D:\\out")):
        assert kind(folder) in (kind(folder) / name).parents
        assert (kind(folder) / name).name == kind(name).name


@pytest.mark.parametrize("ignores_case", [False, True])
def test_two_files_of_one_path_are_refused(tmp_path, monkeypatch, ignores_case):
    monkeypatch.setattr(file_names, "is_case_sensitive", lambda folder: not ignores_case)
    equal = [["a/x", "a/x"], ["x", "y", "./x"], ["a", "a/x"], ["a/b/c", "a"]]
    by_case = [["a/X", "a/x"], ["A/x", "a/x"], ["straße", "STRASSE"], ["é", "e\u0301"]]
    for names in equal + (by_case if ignores_case else []):
        with pytest.raises(ValueError, match=r"is the path of (two files|a file and of a folder)"):
            check_file_names(tmp_path, names)
    for names in [["a", "b", "ab/c"], *([] if ignores_case else by_case)]:
        check_file_names(tmp_path, names)


def test_whether_case_matters_is_found_out_in_the_folder(tmp_path, monkeypatch):
    assert is_case_sensitive(tmp_path / "new" / "folder")
    monkeypatch.setattr(Path, "exists", lambda path: True)  # as where case is ignored
    assert not is_case_sensitive(tmp_path)
    assert not list(tmp_path.iterdir())


def test_decode_refuses_names_before_it_writes(tmp_path):
    def build(*sources):
        clips = [
            CodeClip(source=source, start=start, length=1, grid=(1,), rate=1)
            for start, source in enumerate(sources)
        ]
        return _build_target_paths(tmp_path, clips, ".mkv")

    for name in (*LEADS_OUT, *INVALID):
        if name:
            with pytest.raises(CodeFileError, match=r"cannot write .* into "):
                build(name)
    with pytest.raises(CodeFileError, match=r"cannot write the clips into .* at most 255 bytes"):
        build("a" * 250 + ".mp4")  # the source fits, the file to write does not
    with pytest.raises(CodeFileError, match=r"'a.mp4.mkv' is the path of a file and of a folder"):
        _build_target_paths(
            tmp_path,
            [
                CodeClip(source=source, start=0, length=1, grid=(1,), rate=1)
                for source in ("a.mp4", "a.mp4.mkv/b.mkv")
            ],
            ".mkv",
        )
    assert build("a/x.mp4", "a/x.mp4") == [
        tmp_path / "a" / "x_00000000.mp4.mkv",
        tmp_path / "a" / "x_00000001.mp4.mkv",
    ]
