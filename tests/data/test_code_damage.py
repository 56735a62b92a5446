"""Damaged, forged and old code files: the right result, or a CodeFileError."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
import zlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vqvideo.data.code_dataset import CodeDataset
from vqvideo.data.codes import (
    CodeClip,
    CodeFile,
    CodeFileError,
    CodeHeader,
    PackedClip,
    open_codes,
    write_codes,
)
from vqvideo.data.packing import count_bits_per_code, pack_codes, unpack_codes

ACTIONS = {
    "no actions": None,
    "ids": torch.tensor([0, 2, 1, 3, 0]),
    "vectors": torch.tensor([[0.5, -1], [2, 3], [0, 0.25], [1, 1], [0, -4]]),
}
CODES = torch.tensor([[4, 0, 1], [2, 3, 4], [1, 0, 4]])


def write(path, actions=None, **header):
    """A file of one clip of 3 by 3 codes that cover 5 by 3 data steps."""
    head = CodeHeader(
        **{"codebook_size": 5, "num_codebooks": 1, "downsampling": (2, 1), "fingerprint": "5a"}
        | header
    )
    clip = CodeClip(source="ä.mkv", start=0, length=5, grid=(3, 3), rate=8.0, speaker="b")
    write_codes(path, head, [PackedClip(clip, pack_codes(CODES, head.bits), actions)], {"x": "y"})


def read(path):
    """Everything that a code file holds, in plain Python."""
    file = CodeFile(path)
    clips = [
        (
            file.clips[index],
            file.get_bytes(index) if file.header.coder else file.get_codes(index).tolist(),
            file.get_actions(index).tolist() if file.has_actions(index) else None,
        )
        for index in range(len(file))
    ]
    return file.format_version, file.header, file.corrupt, clips


def read_parts(path):
    """The tensors of a file, and the fields of its header."""
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["vqvideo_codes"].partition(" ")[2]
    return {name: value.clone() for name, value in load_file(path).items()}, json.loads(text)


def forge(path, tensors, fields):
    """Write any tensors and fields under a valid checksum."""
    text = fields if isinstance(fields, str) else json.dumps(fields)
    path.unlink(missing_ok=True)  # truncating it would wait for the disk
    save_file(tensors, path, {"vqvideo_codes": f"{zlib.crc32(text.encode()):08x} {text}"})


def downgrade(path):
    """Rewrite a file in format 2, which has no checksums of actions."""
    tensors, fields = read_parts(path)
    fields["format_version"] = 2
    for clip in fields["clips"]:
        clip.pop("actions_crc32", None)
    if not fields["clips"]:
        tensors["codes"] = torch.zeros(1, dtype=torch.uint8)
    forge(path, tensors, fields)


def count_found_flips(path, stride):
    """Flip one bit after another, and return the fraction that raises; others change nothing."""
    expected, num_bits, num_found = read(path), 8 * path.stat().st_size, 0
    with path.open("r+b", buffering=0) as stream:  # in place: truncating a file waits for the disk
        for bit in range(0, num_bits, stride):
            stream.seek(bit // 8)
            byte = stream.read(1)
            stream.seek(bit // 8)
            stream.write(bytes([byte[0] ^ 1 << bit % 8]))
            try:
                assert read(path) == expected, f"bit {bit} changes what is read"
            except CodeFileError:
                num_found += 1
            stream.seek(bit // 8)
            stream.write(byte)
    return num_found / len(range(0, num_bits, stride))


@pytest.mark.parametrize("coder", [None, "c0de"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path, kind, coder):
    write(tmp_path / "a", ACTIONS[kind], coder=coder, segment=2 if coder else 0)
    stride = 1 if kind == "ids" and not coder else 29  # all bits of one file, a sample of others
    assert count_found_flips(tmp_path / "a", stride) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("coder", [None, "c0de"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_every_flipped_bit_of_a_file_of_several_clips_is_found_or_changes_nothing(
    tmp_path, kind, coder
):
    options = {"coder": coder, "segment": 2 if coder else 0}
    head = CodeHeader(
        codebook_size=5, num_codebooks=2, downsampling=(1,), fingerprint="5a", **options
    )
    clips = [
        PackedClip(
            CodeClip(source=f"{n}", start=n, length=5, grid=(5,), rate=8.0),
            pack_codes(torch.arange(10) % 5, head.bits),
            ACTIONS[kind] if n != 1 else None,
        )
        for n in range(3)
    ]
    write_codes(tmp_path / "a", head, clips)
    assert count_found_flips(tmp_path / "a", 1) > 0.99


def test_actions_may_be_views_of_one_recording(tmp_path):
    head = CodeHeader(codebook_size=5, num_codebooks=1, downsampling=(1,), fingerprint="5a")
    recorded = torch.arange(24).view(8, 3)
    views = [recorded[:5], recorded[2:7], recorded[:5], recorded.flip(0)[:5], recorded.T[0][:5]]
    clip = CodeClip(source="a", start=0, length=5, grid=(5,), rate=8.0)
    data = pack_codes(torch.arange(5), head.bits)
    write_codes(tmp_path / "a", head, [PackedClip(clip, data, view) for view in views])
    file = CodeFile(tmp_path / "a")
    for index, view in enumerate(views):
        assert torch.equal(file.get_actions(index), view)


def test_every_truncation_and_every_appended_byte_is_found(tmp_path):
    write(tmp_path / "a", ACTIONS["ids"])
    whole = (tmp_path / "a").read_bytes()
    added = [bytes([value]) * number for value in (0, 32, 255) for number in (1, 8, 4096)]
    for appended in [*added, whole]:
        with (tmp_path / "a").open("r+b") as stream:
            stream.write(whole + appended)
            stream.truncate()
        with pytest.raises(CodeFileError, match="a is not a code file, or is damaged"):
            CodeFile(tmp_path / "a")
    for length in reversed(range(len(whole))):
        os.truncate(tmp_path / "a", length)
        with pytest.raises(CodeFileError, match="a is not a code file, or is damaged"):
            CodeFile(tmp_path / "a")


def test_damage_to_actions_names_the_clip_and_leaves_the_others_readable(tmp_path):
    head = CodeHeader(codebook_size=5, num_codebooks=1, downsampling=(1,), fingerprint="5a")
    clips = [
        PackedClip(
            CodeClip(source=f"{n}.mkv", start=0, length=5, grid=(5,), rate=8.0),
            pack_codes(torch.arange(5), head.bits),
            torch.arange(5) + 100 * n,
        )
        for n in range(3)
    ]
    write_codes(tmp_path / "a", head, clips)
    whole = bytearray((tmp_path / "a").read_bytes())
    whole[whole.index((103).to_bytes(8, "little"))] ^= 1
    (tmp_path / "a").write_bytes(whole)
    file = CodeFile(tmp_path / "a")
    for start, stop in ((0, None), (0, 1)):  # a part is refused for damage outside of it too
        with pytest.raises(CodeFileError, match=r"actions of clip 1 of .*a \(1.mkv\) are damaged"):
            file.get_actions(1, start, stop)
    assert file.get_actions(2).tolist() == [200, 201, 202, 203, 204]
    assert file.get_codes(1).tolist() == [0, 1, 2, 3, 4]


HOSTILE = [
    *(None, True, False, 0, -1, 1, 2, 3, 1.5, 2.0, 10**9, 2**62, 2**63, 10**400, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "3", "\ud800", "../x" * 20_000, [], [[]], [10**9] * 3),
    *(
        [True, 3],
        [3.0, 3],
        [0, 3],
        [-3, -3],
        [3, 3, 1],
        [10**9, 10**9],
        {},
        {"a": 1},
        [[1] * 9] * 9,
    ),
]


def iter_forged_fields(fields):
    """Yield the fields of a header with one of them replaced, removed or added."""
    for place in ("file", "clip"):
        for name in [*(fields if place == "file" else fields["clips"][0]), "new", "clips"]:
            for value in [*HOSTILE, KeyError]:
                forged = copy.deepcopy(fields)
                entry = forged if place == "file" else forged["clips"][0]
                entry[name] = value
                if value is KeyError:
                    del entry[name]
                yield forged
    for value in HOSTILE:
        yield {**fields, "clips": [value]}


@pytest.mark.slow
@pytest.mark.parametrize("coder", [None, "c0de"])
def test_any_value_of_any_field_under_a_valid_checksum_is_read_or_refused(tmp_path, coder):
    write(tmp_path / "a", ACTIONS["ids"], coder=coder, segment=2 if coder else 0)
    tensors, fields = read_parts(tmp_path / "a")
    num_found = 0
    for forged in iter_forged_fields(fields):
        forge(tmp_path / "b", tensors, forged)
        try:
            read(tmp_path / "b")
        except CodeFileError as error:
            num_found += 1
            assert len(str(error)) < 1000, "a long value is not printed back"
    assert num_found > 700


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, '"\\ud800"']
)
def test_a_header_that_is_no_json_object_is_refused(tmp_path, text):
    forge(tmp_path / "a", {"codes": torch.zeros(2, dtype=torch.uint8)}, text)
    with pytest.raises(CodeFileError, match=r"a (has a header that is not|must be a code file)"):
        CodeFile(tmp_path / "a")


@pytest.mark.parametrize("coder", [None, "c0de"])
def test_the_codes_of_a_clip_are_bounded_by_its_bytes(tmp_path, coder):
    write(tmp_path / "a", coder=coder, segment=2 if coder else 0)
    tensors, fields = read_parts(tmp_path / "a")
    for rows, columns, is_valid in ((3, 3, True), (10**9, 3, False), (3, 10**9, False)):
        fields["clips"][0] |= {"grid": [rows, columns], "length": 2 * rows - 1}
        forge(tmp_path / "b", tensors, fields)
        if is_valid:
            assert len(CodeFile(tmp_path / "b")) == 1
            continue
        with pytest.raises(CodeFileError, match=r"invalid clip 0: .*(take|at most 1024 per byte)"):
            CodeFile(tmp_path / "b")


def test_clips_that_share_bytes_or_leave_some_out_are_refused(tmp_path):
    write(tmp_path / "a")
    tensors, fields = read_parts(tmp_path / "a")
    clip = fields["clips"][0]
    for clips, message in (
        ([clip, clip], "invalid clip 1: offset must be 4, the end of the clip before, got 0"),
        ([clip, {**clip, "offset": 4}], "its clips need more bytes than it has: 8, got 4"),
        ([], "its clips need fewer bytes than it has: 0, got 4"),
    ):
        forge(tmp_path / "b", tensors, {**fields, "clips": clips})
        with pytest.raises(CodeFileError, match=message):
            CodeFile(tmp_path / "b")


OTHER_DTYPES = (
    *(torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.bfloat16, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
INVALID_ACTIONS = {
    **{str(dtype): torch.zeros(5).to(dtype) for dtype in OTHER_DTYPES},
    "too few": torch.zeros(4),
    "too many": torch.zeros(6, 2),
    "a scalar": torch.zeros(()),
    "three axes": torch.zeros(5, 1, 1),
}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", INVALID_ACTIONS)
def test_actions_of_another_kind_are_refused_when_written_and_when_opened(tmp_path, kind, version):
    message = r"actions of ä.mkv must be \[5\] or \[5, a\], with dtype U8, .* or F64; got"
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "b", INVALID_ACTIONS[kind])
    assert not (tmp_path / "b").exists()
    write(tmp_path / "a", ACTIONS["ids"])
    tensors, fields = read_parts(tmp_path / "a")
    fields["format_version"] = version
    if version == 2:
        del fields["clips"][0]["actions_crc32"]
    forge(tmp_path / "a", tensors | {"actions.0": INVALID_ACTIONS[kind]}, fields)
    with pytest.raises(CodeFileError, match=message):
        CodeFile(tmp_path / "a")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_actions_that_are_not_finite_are_refused_when_written_and_when_read(tmp_path, value):
    actions = torch.tensor([0, 1, value, 0, 0])
    with pytest.raises(ValueError, match="actions must be finite, got NaN or infinity"):
        write(tmp_path / "a", actions)
    write(tmp_path / "a", torch.zeros(5))
    tensors, fields = read_parts(tmp_path / "a")
    forge(tmp_path / "a", tensors | {"actions.0": actions}, fields | {"format_version": 2})
    with pytest.raises(CodeFileError, match="has an invalid clip 0: unknown key 'actions_crc32'"):
        CodeFile(tmp_path / "a")
    del fields["clips"][0]["actions_crc32"]
    forge(tmp_path / "a", tensors | {"actions.0": actions}, fields | {"format_version": 2})
    with pytest.raises(CodeFileError, match=r"actions of clip 0 .* must be finite"):
        CodeFile(tmp_path / "a").get_actions(0, 0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions.0": None}, "actions.0 is missing"),
        ({"actions.1": ACTIONS["ids"]}, "it has a tensor 'actions.1' that belongs to no clip"),
        ({"actions.00": ACTIONS["ids"]}, "it has a tensor 'actions.00' that belongs to no clip"),
        ({"more": torch.zeros(2)}, "it has a tensor 'more' that belongs to no clip"),
        ({"codes": torch.zeros(4, dtype=torch.int8)}, r"its codes must be U8 \[bytes\], got I8"),
        ({"codes": torch.zeros(2, 2, dtype=torch.uint8)}, r"must be U8 \[bytes\], got U8 \[2, 2\]"),
    ],
)
def test_tensors_other_than_those_of_the_clips_are_refused(tmp_path, changes, message):
    write(tmp_path / "a", ACTIONS["ids"])
    tensors, fields = read_parts(tmp_path / "a")
    changed = {k: v for k, v in (tensors | changes).items() if v is not None}
    forge(tmp_path / "b", changed, fields)
    with pytest.raises(CodeFileError, match=message):
        CodeFile(tmp_path / "b")
    del fields["clips"][0]["actions_crc32"]
    forge(tmp_path / "b", tensors, fields)
    with pytest.raises(CodeFileError, match=r"actions.0 has no checksum"):
        CodeFile(tmp_path / "b")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CodeFileError, match="must be a code file, got a folder or a device"):
            CodeFile(path)


@pytest.mark.parametrize("kind", ACTIONS)
def test_files_of_format_2_are_read_and_said_to_be_unchecked(tmp_path, kind):
    write(tmp_path / "codes-0.safetensors", ACTIONS[kind])
    shutil.copy(tmp_path / "codes-0.safetensors", tmp_path / "codes-1.safetensors")
    expected = read(tmp_path / "codes-0.safetensors")
    downgrade(tmp_path / "codes-0.safetensors")
    assert read(tmp_path / "codes-0.safetensors") == (2, *expected[1:])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = open_codes(tmp_path)
    assert [file.format_version for file in files] == [2, 3], "both formats are read together"
    assert [file.has_unchecked_actions for file in files] == [kind != "no actions", False]
    messages = [str(each.message) for each in caught]
    assert len(messages) == (kind != "no actions")
    assert all("1 of 2 code files in" in m and "actions are unchecked" in m for m in messages)
    windows = CodeDataset(files, (1, 3))
    assert [windows[index]["codes"].tolist() for index in range(len(windows))] == [
        *CODES[:2, None].tolist(),
        CODES[0, None].tolist(),
    ]


def test_a_file_of_format_2_without_clips_is_read(tmp_path):
    head = CodeHeader(codebook_size=5, num_codebooks=1, downsampling=(1,), fingerprint="5a")
    write_codes(tmp_path / "a", head, [], {"x": "y"})
    expected = read(tmp_path / "a")
    downgrade(tmp_path / "a")
    assert read(tmp_path / "a") == (2, *expected[1:])


def test_codes_or_metadata_that_do_not_match_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="grid must have 1 axes, got 2"):
        write(tmp_path / "a", downsampling=(2,))
    with pytest.raises(ValueError, match="length must be that of 3 codes of 3 data steps, got 5"):
        write(tmp_path / "a", downsampling=(3, 1))
    head = CodeHeader(codebook_size=5, num_codebooks=1, downsampling=(1,), fingerprint="5a")
    clip = CodeClip(source="ä.mkv", start=0, length=9, grid=(9,), rate=8.0)
    message = r"cannot write clip 0 \(ä.mkv\): 9 codes take 4 bytes, got 3"
    with pytest.raises(ValueError, match=message):
        write_codes(tmp_path / "a", head, [PackedClip(clip, b"123")])
    assert not list(tmp_path.iterdir())


def test_the_bits_of_a_code_are_exact_for_codebooks_of_any_size():
    for bits in range(1, 63):
        for size in (2**bits - 1, 2**bits):
            assert count_bits_per_code(size) == max(1, len(format(size - 1, "b")))
        assert count_bits_per_code(2**bits + 1) == bits + 1
    codes = torch.tensor([2**62 - 1, 0, 2**61 + 3, 1])
    assert torch.equal(unpack_codes(pack_codes(codes, 62), 62, 0, 4), codes)
