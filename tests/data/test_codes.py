"""Code files come back as they were, are small, and are never taken for something else."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vqvideo.data import codes as codes_module
from vqvideo.data import packing
from vqvideo.data.code_dataset import CodeDataset
from vqvideo.data.code_header import FORMAT_VERSION
from vqvideo.data.codes import (
    CodeClip,
    CodeFile,
    CodeFileError,
    CodeHeader,
    PackedClip,
    open_codes,
    write_codes,
)
from vqvideo.data.packing import pack_codes, unpack_codes

GRIDS = {1: (11,), 2: (4, 5), 3: (7, 4, 5)}
DOWN = {1: (4,), 2: (4, 2), 3: (2, 4, 4)}
SIZES = (2, 3, 7, 256, 257, 1000, 100_000)


def make_header(rank=3, codebook_size=7, num_codebooks=1, **changes):
    return CodeHeader(
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
        downsampling=DOWN[rank],
        fingerprint="5a1b" * 16,
        **changes,
    )


def make_random_codes(head, rank=3, seed=0, length=None):
    grid = (length or GRIDS[rank][0], *GRIDS[rank][1:])
    each = (head.num_codebooks,) if head.num_codebooks > 1 else ()
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(head.codebook_size, (*grid, *each), generator=draw)
    codes.view(-1)[:2] = torch.tensor([head.codebook_size - 1, 0])  # both ends
    return codes


def make_clip(codes, rank=3, **changes):
    grid = tuple(codes.shape[:rank])
    said = {"source": "a/b.mp4", "start": 0, "length": grid[0] * DOWN[rank][0], "rate": 12.5}
    return CodeClip(grid=grid, **{**said, **changes})


def write(path: Path, head=None, clips=None, actions=None, **said):
    """A file of clips, by default of 7, 9 and 2 codes along the first axis; returns the codes."""
    head = head or make_header()
    codes = clips or [make_random_codes(head, seed=i, length=n) for i, n in enumerate((7, 9, 2))]
    each = [
        PackedClip(
            make_clip(c, **{name: values[i] for name, values in said.items()}),
            pack_codes(c, head.bits),
            actions[i] if actions else None,
        )
        for i, c in enumerate(codes)
    ]
    write_codes(path, head, each)
    return codes


def pack_bits_by_loop(codes, bits):
    """Packing again, digit by digit."""
    digits = "".join(format(int(code), f"0{bits}b")[::-1] for code in codes.flatten())
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[i : i + 8][::-1], 2) for i in range(0, len(digits), 8))


@pytest.mark.parametrize("codebook_size", SIZES)
def test_a_code_takes_the_fewest_bits_that_can_hold_it(codebook_size):
    head = make_header(codebook_size=codebook_size)
    codes = make_random_codes(head)
    assert 2 ** (head.bits - 1) < codebook_size <= 2**head.bits
    data = pack_codes(codes, head.bits)
    assert data == pack_bits_by_loop(codes, head.bits)
    assert len(data) == -(-codes.numel() * head.bits // 8)
    assert torch.equal(unpack_codes(data, head.bits, 0, codes.numel()), codes.flatten())


def test_packing_in_parts_is_packing_at_once(monkeypatch):
    codes = make_random_codes(make_header(codebook_size=1000))
    whole = pack_codes(codes, 10)
    monkeypatch.setattr(packing, "_CHUNK_SIZE", 16)
    assert pack_codes(codes, 10) == whole


@pytest.mark.parametrize("num_codebooks", [1, 3])
@pytest.mark.parametrize("codebook_size", [7, 300])
@pytest.mark.parametrize("rank", GRIDS)
def test_codes_come_back_as_they_were_whole_and_in_part(
    tmp_path, rank, codebook_size, num_codebooks
):
    head = make_header(rank, codebook_size, num_codebooks)
    each = [make_random_codes(head, rank, seed=i, length=n) for i, n in enumerate((7, 9, 2))]
    write_codes(
        tmp_path / "a",
        head,
        [PackedClip(make_clip(c, rank), pack_codes(c, head.bits)) for c in each],
    )
    file = CodeFile(tmp_path / "a")
    assert file.header == head
    assert len(file) == 3
    for index, codes in enumerate(each):
        assert file.clips[index] == make_clip(codes, rank)
        assert torch.equal(file.get_codes(index), codes)
        assert file.get_codes(index).dtype == torch.int64
        for first in range(len(codes)):
            for last in range(first, len(codes) + 1):
                assert torch.equal(file.get_codes(index, first, last), codes[first:last])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_known_of_a_clip_goes_with_it(tmp_path):
    actions = [torch.randint(5, (n * 2,)) for n in (7, 9, 2)]
    write(
        tmp_path / "a",
        actions=actions,
        class_name=["cat", None, "dog"],
        speaker=[None, "ann", None],
        split=["train", "test", "train"],
        source=["x.mp4", "y/x.mp4", "ü.mp4"],
        start=[0, 8, 0],
    )
    file = CodeFile(tmp_path / "a")
    assert [clip.class_name for clip in file.clips] == ["cat", None, "dog"]
    assert [clip.speaker for clip in file.clips] == [None, "ann", None]
    assert [clip.split for clip in file.clips] == ["train", "test", "train"]
    assert [clip.source for clip in file.clips] == ["x.mp4", "y/x.mp4", "ü.mp4"]
    assert [clip.start for clip in file.clips] == [0, 8, 0]
    for index, expected in enumerate(actions):
        assert torch.equal(file.get_actions(index), expected)
    write(tmp_path / "b")
    assert not CodeFile(tmp_path / "b").has_actions(0)
    assert torch.equal(file.get_actions(1, 3, 7), actions[1][3:7])


def test_the_file_is_plain_safetensors_with_json(tmp_path):
    codes = write(tmp_path / "a")
    with safe_open(tmp_path / "a", framework="pt") as file:
        checksum, _, text = file.metadata()["vqvideo_codes"].partition(" ")
    assert int(checksum, 16) == zlib.crc32(text.encode())
    said = json.loads(text)
    assert said["format_version"] == FORMAT_VERSION == 3
    assert said["clips"][1]["grid"] == [9, 4, 5]
    stored = load_file(tmp_path / "a")["codes"].numpy().tobytes()
    place = said["clips"][1]
    part = stored[place["offset"] : place["offset"] + place["bytes"]]
    assert part == pack_bits_by_loop(codes[1], 3)


def test_a_file_goes_to_another_process(tmp_path):
    codes = write(tmp_path / "a")
    again = pickle.loads(pickle.dumps(CodeFile(tmp_path / "a")))
    assert torch.equal(again.get_codes(2), codes[2])


def test_codes_of_another_tokenizer_are_refused(tmp_path):
    write(tmp_path / "a")
    file = CodeFile(tmp_path / "a")
    file.check_fingerprint("5a1b" * 16)
    with pytest.raises(CodeFileError, match=r"codes of another tokenizer: .* 5a1b5a1b5a1b, the mo"):
        file.check_fingerprint("77" * 32)


def test_compressed_codes_are_not_taken_for_packed_ones(tmp_path):
    write(tmp_path / "a", make_header(coder="c0de", segment=1))
    with pytest.raises(CodeFileError, match="is compressed under a prior"):
        CodeFile(tmp_path / "a").get_codes(0)


def test_a_flipped_bit_is_found_and_its_clip_named(tmp_path):
    path = tmp_path / "a"
    write(path, source=["x.mp4", "y.mp4", "z.mp4"])
    whole = path.read_bytes()
    start = whole.rindex(CodeFile(path).get_bytes(1))
    path.write_bytes(whole[: start + 3] + bytes([whole[start + 3] ^ 4]) + whole[start + 4 :])
    damaged = CodeFile(path)
    damaged.get_bytes(0)
    with pytest.raises(CodeFileError, match=r"clip 1 of .*a \(y.mp4\) is damaged: its CRC-32"):
        damaged.get_codes(1)


def test_a_code_that_the_codebook_lacks_is_found_in_part_of_a_clip(tmp_path):
    head = make_header(codebook_size=7)
    codes = torch.full((5, 4, 5), 7)
    write(tmp_path / "a", head, [codes])
    with pytest.raises(CodeFileError, match="has code 7, expected codes below 7"):
        CodeFile(tmp_path / "a").get_codes(0, 1, 2)


def read_header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()["vqvideo_codes"]


def replace_header(path, target, text):
    save_file(load_file(path), target, {"vqvideo_codes": text})


def test_another_version_is_refused(tmp_path):
    write(tmp_path / "a")
    text = read_header(tmp_path / "a").partition(" ")[2].replace('version": 3', 'version": 4')
    replace_header(tmp_path / "a", tmp_path / "b", f"{zlib.crc32(text.encode()):08x} {text}")
    with pytest.raises(CodeFileError, match="format version 2 or 3, got 4; encode the data again"):
        CodeFile(tmp_path / "b")


def test_every_flipped_bit_of_a_header_is_found(tmp_path):
    write(tmp_path / "a", clips=[make_random_codes(make_header())])
    text = read_header(tmp_path / "a")
    for place in range(0, len(text), 3):
        for bit in (1, 2, 4):
            letter = chr(ord(text[place]) ^ bit)
            if not letter.isprintable() or letter in '"\\':
                continue
            replace_header(
                tmp_path / "a", tmp_path / "b", text[:place] + letter + text[place + 1 :]
            )
            with pytest.raises(CodeFileError, match=r"b has a damaged header \(its CRC-32"):
                CodeFile(tmp_path / "b")


def test_a_header_that_speaks_of_more_than_there_is_is_refused(tmp_path):
    write(tmp_path / "a")
    said = {"vqvideo_codes": read_header(tmp_path / "a")}
    save_file({"codes": torch.zeros(3, dtype=torch.uint8)}, tmp_path / "b", said)
    with pytest.raises(CodeFileError, match="its clips need more bytes than it has"):
        CodeFile(tmp_path / "b")


def test_a_flipped_bit_is_found_when_a_part_of_the_clip_is_read_too(tmp_path):
    write(tmp_path / "a", make_header(codebook_size=8))
    whole, data = (tmp_path / "a").read_bytes(), CodeFile(tmp_path / "a").get_bytes(0)
    place = whole.rindex(data) + len(data) - 1
    (tmp_path / "a").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(CodeFileError, match=r"clip 0 .* is damaged: its CRC-32"):
        CodeFile(tmp_path / "a").get_codes(0, 1, 2)


def test_sources_that_could_not_be_read_are_named_in_the_file(tmp_path):
    write_codes(tmp_path / "a", make_header(), [], {"x.mp4": "x.mp4 is empty"})
    assert CodeFile(tmp_path / "a").corrupt == {"x.mp4": "x.mp4 is empty"}


def test_a_folder_that_lacks_code_files_is_refused(tmp_path):
    for number in (0, 1, 2):
        write(tmp_path / f"codes-{number:05d}-of-00003.safetensors")
    assert len(open_codes(tmp_path)) == 3
    (tmp_path / "codes-00001-of-00003.safetensors").unlink()
    with pytest.raises(CodeFileError, match=r"has 2 code files, .*expected all files of one run"):
        open_codes(tmp_path)
    write(tmp_path / "codes-00001-of-00002.safetensors")
    with pytest.raises(CodeFileError, match="expected all files of one run"):
        open_codes(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\0\0\0\0\0\0\0{}      "])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CodeFileError, match=r"a is (not a code file|a safetensors file, but not)"):
        CodeFile(tmp_path / "a")
    save_file({"codes": torch.zeros(3)}, tmp_path / "b")
    with pytest.raises(CodeFileError, match="b is a safetensors file, but not a code file"):
        CodeFile(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        CodeFile(tmp_path / "nowhere")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    codes = write(tmp_path / "a")

    def crash(*args, **kwargs):
        Path(args[1]).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(codes_module, "save_file", crash)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "a", clips=[codes[0]])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert torch.equal(CodeFile(tmp_path / "a").get_codes(1), codes[1])


def test_a_folder_is_opened_as_one_set_of_one_tokenizer(tmp_path):
    assert open_codes(tmp_path) == []
    write(tmp_path / "codes-1.safetensors")
    write(tmp_path / "codes-0.safetensors")
    assert [file.path.name[:7] for file in open_codes(tmp_path)] == ["codes-0", "codes-1"]
    write(tmp_path / "codes-2.safetensors", make_header(codebook_size=6))
    with pytest.raises(CodeFileError, match=r"codes-0.* and .*codes-2.* have different headers"):
        open_codes(tmp_path)


def get_starts(windows):
    return [tuple(int(n) for n in row) for row in windows.windows]


def test_windows_lie_side_by_side_and_begin_with_each_clip(tmp_path):
    codes = write(tmp_path / "a", split=["train", "train", "test"])
    files = [CodeFile(tmp_path / "a")]
    windows = CodeDataset(files, (2, 4, 5))
    assert get_starts(windows) == [(0, 0, n) for n in (0, 2, 4)] + [(0, 1, n) for n in (0, 2, 4, 6)]
    for index, (_, clip, first) in enumerate(get_starts(windows)):
        assert torch.equal(windows[index]["codes"], codes[clip][first : first + 2])
    assert get_starts(CodeDataset(files, (2, 4, 5), split="test")) == [(0, 2, 0)]
    assert len(CodeDataset(files, (2, 4, 5), clip_stride=1)) == 6 + 8
    assert len(CodeDataset(files, (8, 4, 5))) == 1


def test_a_last_code_that_data_fills_in_part_is_in_no_window(tmp_path):
    write(tmp_path / "a", length=[13, 18, 4], split=["train", "train", "test"])
    windows = CodeDataset([CodeFile(tmp_path / "a")], (7, 4, 5))
    assert get_starts(windows) == [(0, 1, 0)]


@pytest.mark.parametrize("lengths", [(40, 33), (40, 31, 5, 5), (60,)])
def test_without_a_split_the_last_tenth_is_the_test_split_and_no_code_of_it_trained_on(
    tmp_path, lengths
):
    head = make_header()
    write(tmp_path / "a", head, [make_random_codes(head, length=length) for length in lengths])
    files = [CodeFile(tmp_path / "a")]
    train, test = (CodeDataset(files, (5, 4, 5), split=s, clip_stride=2) for s in ("train", "test"))
    every = {(c, n) for c, size in enumerate(lengths) for n in range(0, size - 4, 2)}
    assert len(test) == -(-len(every) // 10)
    seen = {(c, n + i) for _, c, n in get_starts(train) for i in range(5)}
    held = {(c, n + i) for _, c, n in get_starts(test) for i in range(5)}
    assert not seen & held
    assert {(c, n) for _, c, n in get_starts(train)} == {
        (c, n) for c, n in every if not held & {(c, n + i) for i in range(5)}
    }


def test_a_window_has_its_own_actions_and_label_ids(tmp_path):
    actions = [100 * i + torch.arange(n * 2) for i, n in enumerate((7, 9, 2))]
    told = {"class_name": ["b", "a", "b"], "speaker": ["x", "x", None]}
    write(tmp_path / "a", actions=actions, split=["train", "train", "test"], **told)
    windows = CodeDataset([CodeFile(tmp_path / "a")], (3, 4, 5))
    assert windows.label_names == {"class_id": ["a", "b"], "speaker": []}
    for index, (_, clip, first) in enumerate(get_starts(windows)):
        sample = windows[index]
        assert set(sample) == {"codes", "class_id", "actions"}
        assert sample["actions"].tolist() == [100 * clip + 2 * first + n for n in range(6)]
        assert sample["class_id"].item() == (1, 0)[clip]


def test_actions_are_conditions_only_where_every_clip_has_them(tmp_path):
    actions = [torch.zeros(14), None, torch.zeros(4)]
    write(tmp_path / "a", actions=actions)
    windows = CodeDataset([CodeFile(tmp_path / "a")], (2, 4, 5))
    assert all(set(windows[index]) == {"codes"} for index in range(len(windows)))


def test_windows_that_do_not_fit_are_refused(tmp_path):
    write(tmp_path / "a")
    files = [CodeFile(tmp_path / "a")]
    with pytest.raises(ValueError, match=r"no window of \[10, 4, 5\] codes in the split 'train'"):
        CodeDataset(files, (10, 4, 5))
    with pytest.raises(ValueError, match=r"codes of a/b.mp4 are \[7, 4, 5\], windows \[2, 5, 4\]"):
        CodeDataset(files, (2, 5, 4))
    with pytest.raises(ValueError, match="clip_stride must be at least 1, got 0"):
        CodeDataset(files, (2, 4, 5), clip_stride=0)


def test_every_part_of_the_header_is_kept(tmp_path):
    head = make_header(coder="c0de", segment=4, num_codebooks=2)
    write_codes(tmp_path / "a", head, [])
    assert CodeFile(tmp_path / "a").header == head
    assert len(CodeFile(tmp_path / "a")) == 0
    assert dataclasses.asdict(head).keys() == dataclasses.asdict(make_header()).keys()
    assert np.prod(head.downsampling) == 32
