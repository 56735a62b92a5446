"""No command replaces a file that it did not write, unless it is asked to."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from benchmarks.runs import record_settings

import vqvideo
from vqvideo import media
from vqvideo.atomic import replace_files
from vqvideo.builtin_parts import COMPANION_FILES
from vqvideo.checkpoint import NOTICE_NAME
from vqvideo.cli import main
from vqvideo.commands.decode import decode
from vqvideo.commands.encode import encode
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.initialize import prepare_run_folder
from vqvideo.commands.output_record import OutputRecord
from vqvideo.commands.train_vqvae import check_run_folder
from vqvideo.training.run_folder import RUN_FILES
from vqvideo.training.state import STATE_NAME

NETS = {
    1: {"name": "patchify", "widths": (4,) * 6, "num_blocks": (1,) * 6},
    2: {"name": "conv", "width": 4, "num_blocks": 1},
    3: {"name": "patchify", "widths": (4, 4), "num_blocks": (1, 1)},
}
MODELS = {1: "audio", 2: "image", 3: "video"}
NAMES = {1: "sub/voice.wav", 2: "sub/photo.png", 3: "sub/walk.mp4"}


@pytest.fixture(scope="module")
def recordings_of(tmp_path_factory):
    """For each rank a folder with a model, one recording and its codes."""
    return functools.cache(lambda rank: make_recordings(rank, tmp_path_factory.mktemp("made")))


@pytest.fixture
def recordings(recordings_of):
    return recordings_of(2)


def make_recordings(rank, out):
    torch.manual_seed(rank)
    generator = vqvideo.build(
        MODELS[rank],
        encoder=NETS[rank],
        decoder=NETS[rank],
        quantizer={"codebook_size": 20, "code_dim": 4},
        prior={"width": 8, "num_layers": 2},
    )
    axes = {1: (64 * 80,), 2: (64, 64), 3: (16, 64, 64)}[rank]
    x = torch.rand(2, generator.config.channels, *axes) * 2 - 1
    generator.vqvae.train().loss(x)
    vqvideo.save(generator.eval(), out / "model")
    file = out / "data" / NAMES[rank]
    file.parent.mkdir(parents=True)
    if rank == 1:
        media.write_audio(file, x[0].clamp(-1, 1), int(generator.config.rate))
    elif rank == 2:
        media.write_image(file, x[0])
    else:
        media.write_video(file, x[0], 8)
    encode(str(out / "data"), str(out / "codes"), model=str(out / "model"))
    return out


def take_snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def run_decode(recordings, out, **options):
    return decode(str(recordings / "codes"), str(out), model=str(recordings / "model"), **options)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_decoding_over_the_recordings_is_refused_before_anything_is_written(recordings_of, rank):
    recordings = recordings_of(rank)
    before = take_snapshot(recordings / "data")
    line = ["decode", str(recordings / "codes"), str(recordings / "data")]
    with pytest.raises(
        FileExistsError, match=r"exists, and .*decode\.jsonl does not .*--overwrite"
    ):
        run_decode(recordings, recordings / "data")
    assert main([*line, "--model", str(recordings / "model")]) == 1
    assert take_snapshot(recordings / "data") == before


def test_a_file_of_any_age_content_or_kind_that_decode_did_not_write_is_kept(recordings, tmp_path):
    written = run_decode(recordings, tmp_path / "out")[0]
    content, codes = written.read_bytes(), next((recordings / "codes").glob("codes-*"))
    for age in (-1, 1):
        written.write_bytes(content + b"\0")
        os.utime(written, ns=(0, codes.stat().st_mtime_ns + age))
        with pytest.raises(FileExistsError, match="does not record its content"):
            run_decode(recordings, tmp_path / "out")
        assert written.read_bytes() == content + b"\0"
    written.unlink()
    written.symlink_to(tmp_path / "missing")
    with pytest.raises(FileExistsError):
        run_decode(recordings, tmp_path / "out")
    written.unlink()
    written.mkdir()
    with pytest.raises(FileExistsError):
        run_decode(recordings, tmp_path / "out")


def test_own_files_are_kept_for_the_same_codes_and_replaced_for_others(recordings, tmp_path):
    written = run_decode(recordings, tmp_path)[0]
    os.utime(written, ns=(0, 0))  # age does not matter
    before = take_snapshot(tmp_path)
    assert run_decode(recordings, tmp_path) == [written]
    assert take_snapshot(tmp_path) == before
    other = vqvideo.load(recordings / "model")
    with torch.no_grad():
        for weight in other.vqvae.decoder.parameters():
            weight.mul_(0.5)
    vqvideo.save(other, tmp_path / "other")
    decode(str(recordings / "codes"), str(tmp_path), model=str(tmp_path / "other"))
    assert written.read_bytes() != before[written][1]


def test_overwrite_replaces_a_foreign_file_and_records_it(recordings, tmp_path):
    target = tmp_path / run_decode(recordings, tmp_path / "a")[0].relative_to(tmp_path / "a")
    target.parent.mkdir()
    target.write_bytes(b"mine")
    assert run_decode(recordings, tmp_path, overwrite=True) == [target]
    assert target.read_bytes() != b"mine"
    lines = [json.loads(line) for line in (tmp_path / "decode.jsonl").read_text().splitlines()]
    assert lines[0] == {"record_of": "vqvideo decode", "format_version": 1}
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    assert [(line["file"], line["sha256"]) for line in lines[1:]] == [
        (target.relative_to(tmp_path).as_posix(), digest)
    ]
    run_decode(recordings, tmp_path)


def write_with(record, file, content, recipe="r"):
    with record.replace(file, recipe) as temporary:
        temporary.write_bytes(content)


def test_a_writer_killed_at_any_step_still_knows_its_files(tmp_path, monkeypatch):
    """Each call that changes the disk fails in turn, and what it leaves is what a kill leaves."""
    number, failing = 0, -1

    def wrap(call):
        def wrapped(*args, **options):
            nonlocal number
            number += 1
            if number == failing:
                raise KeyboardInterrupt
            return call(*args, **options)

        return wrapped

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    for failing in range(1, 8):
        folder, number = tmp_path / str(failing), 0
        try:
            for content in (b"first", b"second"):
                record = OutputRecord(folder, "decode")
                record.start()
                write_with(record, folder / "a.bin", content, content.decode())
        except KeyboardInterrupt:
            pass
        number = -10
        record = OutputRecord(folder, "decode")
        file = folder / "a.bin"
        needed = record.needs_write(file, "second", overwrite=False)
        assert needed == (not file.exists() or file.read_bytes() == b"first")
        record.start()
        write_with(record, file, b"third")
        assert not OutputRecord(folder, "decode").needs_write(file, "r", overwrite=False)


def test_a_line_that_a_crash_cut_loses_only_its_own_file(tmp_path):
    record = OutputRecord(tmp_path, "decode")
    record.start()
    for name in ("a.bin", "b.bin"):
        write_with(record, tmp_path / name, name.encode())
    whole = record.path.read_bytes()
    first_two = whole[: whole.rindex(b'{"file": "b.bin"')]
    for length in range(len(first_two), len(whole)):
        record.path.write_bytes(whole[:length])
        again = OutputRecord(tmp_path, "decode")
        again.start()
        write_with(again, tmp_path / "c.bin", b"c")
        again = OutputRecord(tmp_path, "decode")
        for name in ("a.bin", "c.bin"):
            assert not again.needs_write(tmp_path / name, "r", overwrite=False)
        if length < len(whole) - 1:
            with pytest.raises(FileExistsError):
                again.needs_write(tmp_path / "b.bin", "r", overwrite=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"mine",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"record_of": "vqvideo decode", "format_version": 2}\n',
        b'{"record_of": "another"}\n',
    ],
    ids=["empty", "text", "deep", "bytes", "newer", "other"],
)
def test_a_foreign_file_in_the_place_of_a_record_is_named_and_kept(tmp_path, content):
    (tmp_path / "decode.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"decode\.jsonl is not a record of this command"):
        OutputRecord(tmp_path, "decode")
    assert (tmp_path / "decode.jsonl").read_bytes() == content


def test_a_code_file_of_another_run_is_not_taken_for_a_finished_one(recordings, tmp_path):
    codes, model = tmp_path / "codes", str(recordings / "model")
    encode(str(recordings / "data"), str(codes), model=model)
    other = vqvideo.load(model)
    with torch.no_grad():
        for weight in other.vqvae.encoder.parameters():
            weight.mul_(0.5)
    vqvideo.save(other, tmp_path / "other")
    encode(str(recordings / "data"), str(tmp_path / "foreign"), model=str(tmp_path / "other"))
    file = next(codes.glob("codes-*"))
    file.write_bytes((tmp_path / "foreign" / file.name).read_bytes())
    before = take_snapshot(codes)
    with pytest.raises(FileExistsError, match="not with the codes of this run"):
        encode(str(recordings / "data"), str(codes), model=model)
    assert take_snapshot(codes) == before
    options = EncodeOptions(overwrite=True)
    encode(str(recordings / "data"), str(codes), model=model, options=options)
    assert file.read_bytes() != before[file][1]


@pytest.mark.parametrize("name", RUN_FILES)
def test_training_into_a_folder_of_other_files_is_refused(tmp_path, name):
    file = tmp_path / name
    file.mkdir() if "." not in name else file.write_bytes(b"mine")
    if name == STATE_NAME or name == "model":
        return  # taken for a run, refused with other words
    before = take_snapshot(tmp_path)
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="no state of a run that wrote it"):
            check_run_folder(str(tmp_path), overwrite=False, resume=resume)
    check_run_folder(str(tmp_path), overwrite=True, resume=False)
    assert take_snapshot(tmp_path) == before
    prepare_run_folder(str(tmp_path), [], overwrite=True)
    assert not file.exists()


def test_a_run_removes_no_file_that_only_looks_like_one_of_a_run(tmp_path):
    names = ["samples.npy", "reconstructions.txt", "samples", "my.log.jsonl", "samples.png.bak"]
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    check_run_folder(str(tmp_path), overwrite=True, resume=False)
    prepare_run_folder(str(tmp_path), [], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", [NOTICE_NAME, *COMPANION_FILES])
def test_a_notice_and_a_companion_file_of_the_user_are_neither_replaced_nor_removed(tmp_path, name):
    source, out = tmp_path / "source", tmp_path / "out"
    generator = vqvideo.build("image", encoder=NETS[2], decoder=NETS[2])
    vqvideo.save(generator, source)
    out.mkdir()
    (out / name).write_bytes(b"mine")
    prepare_run_folder(str(out), [str(source)], tokenizer=str(source), overwrite=False)
    assert (out / name).read_bytes() == b"mine"  # the source has none
    (source / name).write_bytes(b"theirs")
    with pytest.raises(FileExistsError, match="--overwrite"):
        prepare_run_folder(str(out), [str(source)], tokenizer=str(source), overwrite=False)
    assert (out / name).read_bytes() == b"mine"
    prepare_run_folder(str(out), [str(source)], tokenizer=str(source), overwrite=True)
    assert (out / name).read_bytes() == b"theirs"
    prepare_run_folder(str(out), [str(source)], tokenizer=str(source), overwrite=False)
    (source / name).unlink()
    prepare_run_folder(str(out), [str(source)], tokenizer=str(source), overwrite=True)
    assert not (out / name).exists()


def test_files_that_appear_while_a_command_works_are_kept(tmp_path):
    with (
        pytest.raises(FileExistsError, match="overwrite=True"),
        replace_files(tmp_path, ["a.json", "b.png"], overwrite=False) as temporary,
    ):
        (temporary / "a.json").write_bytes(b"result")
        (tmp_path / "b.png").write_bytes(b"mine")
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]
    with replace_files(tmp_path, ["a.json", "b.png"], overwrite=True) as temporary:
        (temporary / "a.json").write_bytes(b"result")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_benchmark_writes_only_into_a_new_folder_or_its_own(tmp_path):
    (tmp_path / "bits.json").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"no settings\.json of an earlier benchmark"):
        record_settings(tmp_path, {"steps": 2})
    (tmp_path / "settings.json").write_bytes(b"mine too")
    with pytest.raises(ValueError, match="runs with other settings"):
        record_settings(tmp_path, {"steps": 2})
    assert (tmp_path / "settings.json").read_bytes() == b"mine too"
    record_settings(tmp_path / "new", {"steps": 2})
    record_settings(tmp_path / "new", {"steps": 2})
