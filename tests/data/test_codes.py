"""Code files come back as they were, are small, and are never taken for something else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from vqvideo.data import codes as codes_module
from vqvideo.data.codes import FORMAT_VERSION, CodeSet

GRIDS = {1: (11,), 2: (4, 5), 3: (3, 4, 5)}


FINGERPRINT = "5a1b"


def code_set(rank: int = 3, codebook_size: int = 7, number: int = 6, **conditions) -> CodeSet:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(codebook_size, (number, *GRIDS[rank]), generator=generator)
    return CodeSet(
        codes=codes, codebook_size=codebook_size, fingerprint=FINGERPRINT, conditions=conditions
    )


def assert_same(a: CodeSet, b: CodeSet) -> None:
    assert torch.equal(a.codes, b.codes)
    assert a.codes.dtype == b.codes.dtype == torch.int64
    assert a.codebook_size == b.codebook_size
    assert a.fingerprint == b.fingerprint
    assert a.conditions.keys() == b.conditions.keys()
    for name, values in a.conditions.items():
        assert values.dtype == b.conditions[name].dtype
        assert torch.equal(values, b.conditions[name])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("codebook_size", "stored"),
    [(7, torch.uint8), (256, torch.uint8), (257, torch.int32), (100_000, torch.int32)],
)
def test_codes_come_back_as_they_were_and_are_small_on_disk(tmp_path, rank, codebook_size, stored):
    written = code_set(rank, codebook_size)
    written.codes[0].fill_(codebook_size - 1)  # the largest there is
    written.save(tmp_path / "a.safetensors")
    assert_same(CodeSet.load(str(tmp_path / "a.safetensors")), written)
    assert load_file(tmp_path / "a.safetensors")["codes"].dtype == stored
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_conditions_come_back_beside_their_codes(tmp_path):
    told = {
        "class_id": torch.arange(6),
        "speaker": torch.arange(6).flip(0),
        "actions": torch.randn(6, 12, 2),
    }
    written = code_set(**told)
    written.save(tmp_path / "a.safetensors")
    again = CodeSet.load(tmp_path / "a.safetensors")
    assert_same(again, written)
    sample = again[4]
    assert set(sample) == {"codes", *told}
    assert torch.equal(sample["codes"], written.codes[4])
    assert (int(sample["class_id"]), int(sample["speaker"])) == (4, 1)
    assert torch.equal(sample["actions"], told["actions"][4])


def test_conditions_and_codes_may_be_views_of_other_tensors(tmp_path):
    whole = code_set()
    written = CodeSet(
        codes=whole.codes.transpose(1, 2),
        codebook_size=7,
        fingerprint="of a view",
        conditions={"actions": torch.arange(60).view(6, 10)[:, ::2]},
    )
    written.save(tmp_path / "a.safetensors")
    assert_same(CodeSet.load(tmp_path / "a.safetensors"), written)


def test_a_code_set_is_a_data_set():
    codes = code_set(class_id=torch.arange(6))
    assert len(codes) == 6
    batches = list(DataLoader(codes, batch_size=4))
    assert [batch["codes"].shape for batch in batches] == [(4, *GRIDS[3]), (2, *GRIDS[3])]
    assert batches[1]["class_id"].tolist() == [4, 5]


def test_the_file_says_what_it_is(tmp_path):
    code_set(codebook_size=300).save(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["vqvideo_codes"])
    assert header == {
        "format_version": FORMAT_VERSION,
        "codebook_size": 300,
        "fingerprint": FINGERPRINT,
        "names": {},
    }


def test_what_the_numbers_stand_for_goes_with_the_codes(tmp_path):
    named = dataclasses.replace(code_set(), names={"class_id": ["cat", "dog"], "speaker": []})
    named.save(tmp_path / "a.safetensors")
    assert CodeSet.load(tmp_path / "a.safetensors").names == named.names


def test_codes_must_say_which_first_stage_made_them():
    with pytest.raises(TypeError, match="fingerprint"):
        CodeSet(codes=torch.zeros(2, 3).long(), codebook_size=7)


@pytest.mark.parametrize("name", ["class_id", "speaker", "actions"])
@pytest.mark.parametrize("number", [0, 1, 5, 7])
def test_a_condition_has_one_entry_for_each_clip(name, number):
    complaint = f"{name} must have one entry for each of 6 clips, got {number}$"
    with pytest.raises(ValueError, match=complaint):
        code_set(**{"local": torch.arange(6), name: torch.zeros(number, 6).long()})


@pytest.mark.parametrize("wrong", [-1, 7, 263])  # in uint8, 263 would come back as 7
def test_codes_outside_the_codebook_are_not_stored(tmp_path, wrong):
    written = code_set()
    written.codes[3, 1, 2, 0] = wrong
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 7\) to be stored"):
        written.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_no_codes_at_all_can_be_stored(tmp_path):
    written = code_set(number=0)
    written.save(tmp_path / "a.safetensors")
    assert_same(CodeSet.load(tmp_path / "a.safetensors"), written)


# -- other files ----------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_of_another_kind_are_no_code_file(tmp_path, metadata):
    save_file({"codes": torch.zeros(2, 3)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(
        ValueError, match=r"a\.safetensors must be a code file .*, got no code file"
    ):
        CodeSet.load(tmp_path / "a.safetensors")


def test_a_newer_code_file_is_refused_by_its_version(tmp_path):
    header = {"format_version": FORMAT_VERSION + 1, "codebook_size": 7, "fingerprint": "x"}
    save_file(
        {"codes": torch.zeros(2, 3)},
        tmp_path / "a.safetensors",
        metadata={"vqvideo_codes": json.dumps(header)},
    )
    complaint = f"code file of format version {FORMAT_VERSION}, got {FORMAT_VERSION + 1}$"
    with pytest.raises(ValueError, match=complaint):
        CodeSet.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("lacks", ["codebook_size", "fingerprint"])
def test_a_code_file_that_lacks_an_entry_is_named(tmp_path, lacks):
    header = {"format_version": FORMAT_VERSION, "codebook_size": 7, "fingerprint": "x"}
    del header[lacks]  # as files have it that were written before there were fingerprints
    save_file(
        {"codes": torch.zeros(2, 3)},
        tmp_path / "a.safetensors",
        metadata={"vqvideo_codes": json.dumps(header)},
    )
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        CodeSet.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"codes: 1, 2, 3", b"\x80\x04pickle" * 9], ids=["empty", "text", "pickle"]
)
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        CodeSet.load(tmp_path / "a.safetensors")


def test_a_damaged_code_file_is_named(tmp_path):
    file = tmp_path / "a.safetensors"
    code_set().save(file)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        CodeSet.load(file)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CodeSet.load(tmp_path / "nowhere.safetensors")


# -- writing over an old one ----------------------------------------------------------------


def test_saving_again_replaces_the_file(tmp_path):
    code_set().save(tmp_path / "a.safetensors")
    newer = code_set(rank=2, codebook_size=300)
    newer.save(tmp_path / "a.safetensors")
    assert_same(CodeSet.load(tmp_path / "a.safetensors"), newer)


@pytest.fixture
def crashed(tmp_path, monkeypatch) -> CodeSet:
    """What was in a.safetensors before a second save broke off halfway."""

    def half_written(tensors, file, metadata=None):
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    old = code_set()
    old.save(tmp_path / "a.safetensors")
    monkeypatch.setattr(codes_module, "save_file", half_written)
    with pytest.raises(OSError, match="no space left"):
        code_set(rank=2).save(tmp_path / "a.safetensors")
    return old


def test_a_crash_while_writing_leaves_the_old_file(crashed, tmp_path):
    assert_same(CodeSet.load(tmp_path / "a.safetensors"), crashed)


def test_a_crash_while_writing_leaves_no_half_file(crashed, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
