"""`vqvideo encode` and `decode`: all codes, once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands import compressed_codes
from vqvideo.commands import encode as encode_module
from vqvideo.commands.decode import decode
from vqvideo.commands.encode import encode
from vqvideo.commands.encode_options import EncodeOptions
from vqvideo.commands.train_prior import train_prior
from vqvideo.data.codes import CodeClip, CodeFile, CodeFileError, open_codes
from vqvideo.data.metadata import Item, write_metadata
from vqvideo.training import TrainingConfig

LENGTHS = {"a.mp4": 23, "b/c.mp4": 16, "b/d.mkv": 7}
NETS = {
    1: {"name": "patchify", "widths": (4,) * 6, "num_blocks": (1,) * 6},
    2: {"name": "conv", "width": 4, "num_blocks": 1},
    3: {"name": "patchify", "widths": (4, 4), "num_blocks": (1, 1)},
}
MODELS = {1: "audio", 2: "image", 3: "video"}


def make_blobs(length, height, width, seed):
    """Slowly moving colours `[3, t, h, w]`: video that a codec keeps well."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 2 + length // 8, 3, 4, generator=draw) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(length, height, width), mode="trilinear")[
        0
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos of several lengths, two of them of a class, none of the model's size."""
    out = tmp_path_factory.mktemp("videos")
    (out / "b").mkdir()
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write = media.write_lossless if name.endswith("mkv") else media.write_video
        write(out / name, make_blobs(length, 40, 72, seed), 10)
    return out


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Checkpoints of small models of every rank, with codebooks that data has filled."""
    out, built = tmp_path_factory.mktemp("models"), {}
    for rank, name in MODELS.items():
        torch.manual_seed(rank)
        prior = {"width": 8, "num_layers": 2}
        generator = vqvideo.build(
            name,
            encoder=NETS[rank],
            decoder=NETS[rank],
            quantizer={"codebook_size": 20, "code_dim": 4},
            prior=prior,
        )
        axes = {1: (64 * 80,), 2: (64, 64), 3: (16, 64, 64)}[rank]
        x = torch.rand(2, generator.config.channels, *axes) * 2 - 1
        generator.vqvae.train().loss(x)
        vqvideo.save(generator.eval(), out / name)
        built[rank] = str(out / name)
    return built


def get_sizes(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("codes-*"))}


def read_clips(out):
    return {
        (clip.source, clip.start): (file, index)
        for file in open_codes(out)
        for index, clip in enumerate(file.clips)
    }


def test_whole_files_get_the_codes_of_the_whole_and_keep_their_length(folder, models, tmp_path):
    files, figures = encode(str(folder), str(tmp_path), model=models[3])
    vqvae = vqvideo.load(models[3]).vqvae
    clips = read_clips(tmp_path)
    assert [path.name for path in files] == ["codes-00000-of-00001.safetensors"]
    assert {source for source, _ in clips} == set(LENGTHS)
    bits = 0
    for (source, _), (file, index) in clips.items():
        about = file.clips[index]
        x = media.read_video(folder / source, size=(64, 64)).frames
        length = LENGTHS[source]
        filled = torch.cat([x, x[:, -1:].expand(-1, -length % 4, -1, -1)], dim=1)
        assert torch.equal(file.get_codes(index), vqvae.encode(filled[None])[0])
        assert (about.length, about.rate, about.start) == (length, 10, 0)
        assert about.class_name == ("b" if "/" in source else None)
        bits += 5 * file.get_codes(index).numel()
    seconds = sum(LENGTHS.values()) / 10
    assert figures["clips"] == 3
    assert figures["bits_per_second"] == pytest.approx(bits / seconds, abs=0.1)


def test_windows_get_the_codes_of_each_by_itself(folder, models, tmp_path):
    encode(str(folder), str(tmp_path), model=models[3], options=EncodeOptions(clip_stride=6))
    vqvae = vqvideo.load(models[3]).vqvae
    clips = read_clips(tmp_path)
    assert set(clips) == {("a.mp4", 0), ("a.mp4", 6), ("b/c.mp4", 0)}
    x = media.read_video(folder / "a.mp4", range(6, 22), size=(64, 64)).frames
    file, index = clips["a.mp4", 6]
    expected = vqvae.encode(torch.stack([x, x, x]))[0]  # in a batch, as they were encoded
    assert torch.equal(file.get_codes(index), expected)
    assert {file.clips[index].split for file, index in clips.values()} == {"train", "test"}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
def test_audio_and_images_are_encoded_and_decoded_too(models, tmp_path, rank):
    data, out, again = tmp_path / "data", tmp_path / "codes", tmp_path / "again"
    data.mkdir()
    for seed in range(2):
        x = torch.rand(3, 50, 60, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        if rank == 2:
            media.write_image(data / f"{seed}.png", x)
        else:
            media.write_audio(data / f"{seed}.wav", x.view(1, -1)[:, :7001], 16000)
    encode(str(data), str(out), model=models[rank])
    targets = decode(str(out), str(again), model=models[rank])
    vqvae = vqvideo.load(models[rank]).vqvae
    assert [target.name for target in targets] == [
        f"{n}{'.png' if rank == 2 else '.wav'}" for n in (0, 1)
    ]
    for seed, target in enumerate(targets):
        if rank == 2:
            x = media.read_image(data / f"{seed}.png", size=(64, 64))
            found, step = media.read_image(target), 2 / 255
            expected = vqvae.decode(vqvae.encode(x[None]))[0]
        else:
            x = media.read_audio(data / f"{seed}.wav").samples
            filled = torch.cat([x, x[:, -1:].expand(-1, -7001 % 64)], dim=1)
            found, step = media.read_audio(target).samples, 2 / 65535
            expected = vqvae.decode(vqvae.encode(filled[None]))[0, :, :7001]
        torch.testing.assert_close(found, expected, atol=step, rtol=0)


def test_decoded_video_has_the_frames_and_times_of_its_source(folder, models, tmp_path):
    encode(str(folder), str(tmp_path / "codes"), model=models[3])
    out = tmp_path / "again"
    targets = decode(str(tmp_path / "codes"), str(out), model=models[3], suffix=".mkv")
    names = ["a.mp4.mkv", "b/c.mp4.mkv", "b/d.mkv"]
    assert [target.relative_to(out).as_posix() for target in targets] == names
    vqvae = vqvideo.load(models[3]).vqvae
    for (file, index), target in zip(read_clips(tmp_path / "codes").values(), targets, strict=True):
        clip = media.read_video(target)
        expected = vqvae.decode(file.get_codes(index)[None])[0, :, : file.clips[index].length]
        assert torch.equal(media.to_uint8(clip.frames), media.to_uint8(expected))
        assert clip.fps == 10
    stamp = targets[0].stat().st_mtime_ns
    targets[1].unlink()
    decode(str(tmp_path / "codes"), str(out), model=models[3], suffix=".mkv")
    assert targets[1].is_file()
    assert targets[0].stat().st_mtime_ns == stamp, "what is there is not written again"


@pytest.mark.parametrize("clip_stride", [None, 8])
def test_clips_at_another_rate_are_read_by_time(folder, models, tmp_path, clip_stride):
    options = EncodeOptions(fps=20, clip_stride=clip_stride)
    encode(str(folder), str(tmp_path), model=models[3], options=options)
    vqvae = vqvideo.load(models[3]).vqvae
    start = clip_stride or 0
    file, index = read_clips(tmp_path)["a.mp4", start]
    x = media.read_video(folder / "a.mp4", [n // 2 for n in range(46)], size=(64, 64)).frames
    about = file.clips[index]
    assert about.rate == 20
    if clip_stride is None:
        assert about.length == 46
        filled = torch.cat([x, x[:, -1:], x[:, -1:]], dim=1)
    else:
        assert about.length == 16
        filled = x[:, 8:24]
    expected = (
        vqvae.encode(torch.stack([filled] * 4))[0] if clip_stride else vqvae.encode(filled[None])[0]
    )
    assert torch.equal(file.get_codes(index), expected)


@pytest.fixture
def many_files(folder, models, tmp_path, monkeypatch):
    """A folder of seven files that make four shards."""
    monkeypatch.setitem(encode_module.UNITS_PER_SHARD, "files", 2)
    data = tmp_path / "many"
    data.mkdir()
    for number in range(7):
        os.link(folder / "a.mp4", data / f"{number}.mp4")
    return str(data)


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same_files(many_files, models, tmp_path):
    seen = []
    for processes in (1, 2):
        options = EncodeOptions(num_processes=processes)
        out, steps = str(tmp_path / str(processes)), []
        encode(
            many_files,
            out,
            model=models[3],
            options=options,
            progress=lambda *now: steps.append(now),  # noqa: B023
        )
        assert steps[-1] == (7, 7)
        seen.append(get_sizes(out))
    assert len(seen[0]) == 4
    assert seen[0] == seen[1]


def test_more_data_makes_larger_code_files_rather_than_ever_more(
    many_files, models, tmp_path, monkeypatch
):
    monkeypatch.setattr("vqvideo.commands.encode_plan.MAX_SHARDS", 3)
    files, _ = encode(many_files, str(tmp_path), model=models[3])
    assert [len(CodeFile(file)) for file in files] == [3, 3, 1]


def test_a_run_resumes_beside_code_files_of_an_older_format(many_files, models, tmp_path):
    out = tmp_path / "out"
    files, _ = encode(many_files, str(out), model=models[3])
    whole = get_sizes(out)
    rewrite_header(files[0], '"format_version": 3', '"format_version": 2')
    files[1].unlink()
    older = files[0].read_bytes()
    encode(many_files, str(out), model=models[3])
    assert get_sizes(out) == {**whole, files[0].name: older}, "what is there is kept"
    assert [file.format_version for file in open_codes(out)] == [2, 3, 3, 3]
    decode(str(out), str(tmp_path / "again"), model=models[3], suffix=".mkv")
    assert len(list((tmp_path / "again").glob("*.mkv"))) == 7


@pytest.mark.slow
def test_a_killed_run_resumes_with_what_is_missing(many_files, models, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    encode(many_files, str(whole), model=models[3])
    code = (
        "import os, sys\n"
        "from vqvideo.commands import encode as m, encode_shard as s\n"
        "m.UNITS_PER_SHARD['files'] = 2\n"
        "written = s.write_codes\n"
        "def write(path, *rest):\n"
        "    if '00002' in str(path): os.kill(os.getpid(), 9)\n"
        "    written(path, *rest)\n"
        "s.write_codes = write\n"
        "m.encode(sys.argv[1], sys.argv[2], model=sys.argv[3])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, many_files, str(out), models[3]])
    assert done.returncode == -9
    names = sorted(get_sizes(out))
    assert len(names) == 2
    stamps = [(out / name).stat().st_mtime_ns for name in names]
    steps = []
    encode(many_files, str(out), model=models[3], progress=lambda *now: steps.append(now))
    assert steps[0] == (5, 7), "the first two shards are not encoded again"
    assert [(out / name).stat().st_mtime_ns for name in names] == stamps
    assert get_sizes(out) == get_sizes(whole)


def test_other_settings_or_other_files_are_not_mixed_with_what_is_there(folder, models, tmp_path):
    encode(str(folder), str(tmp_path), model=models[3])
    before = get_sizes(tmp_path)
    for changed, options in (
        ("fit", EncodeOptions(fit="pad")),
        ("size", EncodeOptions(size=(32, 64))),
        ("clip_stride", EncodeOptions(clip_stride=4)),
    ):
        with pytest.raises(ValueError, match=f"of other settings: {changed}.* changed; give"):
            encode(str(folder), str(tmp_path), model=models[3], options=options)
    with pytest.raises(ValueError, match="codes of other settings: tokenizer changed"):
        encode(str(folder), str(tmp_path), model="video")
    assert get_sizes(tmp_path) == before
    options = EncodeOptions(size=(32, 64), overwrite=True)
    encode(str(folder), str(tmp_path), model=models[3], options=options)
    assert open_codes(tmp_path)[0].clips[0].grid[1:] == (8, 16)
    (tmp_path / "encode.json").unlink()
    with pytest.raises(FileExistsError, match="already has code files"):
        encode(str(folder), str(tmp_path), model=models[3])


def test_a_run_that_was_refused_is_refused_again(many_files, models, tmp_path):
    Path(many_files, "4.mp4").unlink()
    Path(many_files, "4.mp4").write_bytes(b"no video at all")
    for _ in range(2):
        with pytest.raises(media.MediaError, match=r"1 of 7 files cannot be read, .*4.mp4"):
            encode(many_files, str(tmp_path / "out"), model=models[3])
    said = []
    allowed = EncodeOptions(max_corrupt=0.2)
    _, figures = encode(
        many_files, str(tmp_path / "out"), model=models[3], options=allowed, warn=said.append
    )
    assert (figures["corrupt"], figures["clips"], len(said)) == (1, 6, 1)


def test_a_file_that_breaks_in_the_middle_counts_once_however_many_windows(
    many_files, models, tmp_path
):
    import av

    file = Path(many_files, "2.mp4")
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][18]
        start, stop = packet.pos + 5, packet.pos + packet.size
    data = bytearray(file.read_bytes())
    data[start:stop] = bytes(stop - start)
    file.unlink()
    file.write_bytes(data)
    said = []
    options = EncodeOptions(clip_stride=2, max_corrupt=0.2)
    _, figures = encode(
        many_files, str(tmp_path), model=models[3], options=options, warn=said.append
    )
    assert figures["corrupt"] == len(said) == 1
    assert "2.mp4" in said[0]


def test_what_is_known_of_the_files_belongs_to_what_must_not_change(folder, models, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    os.link(folder / "a.mp4", data / "a.mp4")
    for name in ("cat", "dog"):
        write_metadata(data, [Item(data / "a.mp4", class_name=name)])
        if name == "cat":
            encode(str(data), str(tmp_path / "out"), model=models[3])
    with pytest.raises(ValueError, match="codes of other settings: clips changed;"):
        encode(str(data), str(tmp_path / "out"), model=models[3])
    (tmp_path / "out" / "encode.json").write_text("{")
    with pytest.raises(ValueError, match=r"encode.json is damaged"):
        encode(str(data), str(tmp_path / "out"), model=models[3])


def test_options_for_another_kind_of_data_are_refused(models, tmp_path):
    for rank, options, message in (
        (1, EncodeOptions(fps=3), "fps is for video; this model is for audio"),
        (2, EncodeOptions(fps=3), "fps is for video; this model is for images"),
        (1, EncodeOptions(size=(8, 8)), "size and fit are for images and video"),
        (1, EncodeOptions(fit="pad"), "size and fit are for images and video"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(str(tmp_path), str(tmp_path / "out"), model=models[rank], options=options)


def test_uneven_times_are_not_lost_in_silence(models, tmp_path):
    import av

    data = tmp_path / "data"
    data.mkdir()
    with av.open(str(data / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height = stream.width = 64
        stream.pix_fmt = "bgr0"
        for number in (0, 1, 2, 9, 10, 11, 20, 21):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), "rgb24")
            frame = frame.reformat(format="bgr0")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    message = r"variable frame rate: frame times deviate by up to .* give fps"
    with pytest.raises(media.MediaError, match=message):
        encode(str(data), str(tmp_path / "out"), model=models[3])
    options = EncodeOptions(fps=10)
    encode(str(data), str(tmp_path / "even"), model=models[3], options=options)
    assert open_codes(tmp_path / "even")[0].clips[0].length == 22


@pytest.mark.slow
def test_decoding_in_several_processes_gives_the_same_files(many_files, models, tmp_path):
    encode(many_files, str(tmp_path / "codes"), model=models[3])
    made = []
    for processes in (1, 2):
        out = str(tmp_path / str(processes))
        decode(
            str(tmp_path / "codes"), out, model=models[3], suffix=".mkv", num_processes=processes
        )
        made.append([path.read_bytes() for path in sorted(Path(out).glob("*.mkv"))])
    assert len(made[0]) == 7
    assert made[0] == made[1]


def test_a_decoded_file_of_other_codes_is_decoded_again(folder, models, tmp_path):
    codes, out = str(tmp_path / "codes"), str(tmp_path / "out")
    encode(str(folder), codes, model=models[3])
    first = decode(codes, out, model=models[3])[0]
    before = first.read_bytes()
    encode(
        str(folder), codes, model=models[3], options=EncodeOptions(size=(32, 32), overwrite=True)
    )
    decode(codes, out, model=models[3])
    assert first.read_bytes() != before
    assert media.probe(first).height == 32


def test_damaged_files_are_named_left_out_and_counted_up_to_a_limit(many_files, models, tmp_path):
    for number in (1, 4):
        broken = Path(many_files, f"{number}.mp4")
        broken.unlink()
        broken.write_bytes(b"no video at all")
    said = []
    _, figures = encode(
        many_files,
        str(tmp_path / "out"),
        model=models[3],
        options=EncodeOptions(max_corrupt=0.3),
        warn=said.append,
    )
    assert figures["corrupt"] == 2
    assert figures["clips"] == 5
    assert len(said) == 2
    assert "skipped: " in said[0]
    assert "1.mp4 cannot be read" in said[0]
    few = EncodeOptions(max_corrupt=0.2)
    message = r"2 of 7 files cannot be read, .* max_corrupt=0.2 of them; .*1.mp4.*4.mp4"
    with pytest.raises(media.MediaError, match=message):
        encode(many_files, str(tmp_path / "few"), model=models[3], options=few)


def test_impossible_options_are_refused(folder, models, tmp_path):
    with pytest.raises(ValueError, match="num_processes must be at least 1, got 0"):
        EncodeOptions(num_processes=0)
    with pytest.raises(ValueError, match="height 30 is not divisible by the downsampling 4"):
        encode(str(folder), str(tmp_path), model=models[3], options=EncodeOptions(size=(30, 64)))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"holds no file ending in .mp4"):
        encode(str(empty), str(tmp_path / "out"), model=models[3])
    with pytest.raises(CodeFileError, match="has no code files"):
        decode(str(empty), str(tmp_path / "out"), model=models[3])
    with pytest.raises(
        ValueError, match=r"suffix must be .mp4 or .mkv or .apng or .webp or .gif, got '.avi'"
    ):
        encode(str(folder), str(tmp_path / "codes"), model=models[3])
        decode(str(tmp_path / "codes"), str(tmp_path / "out"), model=models[3], suffix=".avi")


def rewrite_header(path, old, new):
    """Replace text in the header of a code file, under a valid checksum."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, framework="pt") as file:
        text = file.metadata()["vqvideo_codes"].partition(" ")[2]
    assert old in text
    text = text.replace(old, new)
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file(tensors, path, {"vqvideo_codes": f"{zlib.crc32(text.encode()):08x} {text}"})


def test_a_clip_is_never_written_outside_of_the_folder(folder, models, tmp_path):
    files, _ = encode(str(folder), str(tmp_path / "codes"), model=models[3])
    name = json.dumps(CodeFile(files[0]).clips[0].source)
    rewrite_header(files[0], f'"source": {name}', '"source": "../../evil.mp4"')
    with pytest.raises(CodeFileError, match=r"cannot write '../../evil.mp4' into .* leads out"):
        decode(str(tmp_path / "codes"), str(tmp_path / "out"), model=models[3])


def test_compressed_codes_are_smaller_and_come_back_exactly(folder, models, tmp_path):
    pytest.importorskip("constriction")
    packed, small = tmp_path / "packed", tmp_path / "small"
    encode(str(folder), str(packed), model=models[3])
    options = EncodeOptions(compress=True, size=(16, 20))
    _, figures = encode(str(folder), str(small), model=models[3], options=options)
    assert figures["bits_per_second_packed"] > 0
    assert figures["bits_per_second_zstd"] > 0
    plain = EncodeOptions(size=(16, 20))
    encode(str(folder), str(tmp_path / "plain"), model=models[3], options=plain)
    decode(str(small), str(tmp_path / "one"), model=models[3], suffix=".mkv")
    decode(str(tmp_path / "plain"), str(tmp_path / "two"), model=models[3], suffix=".mkv")
    for one in (tmp_path / "one").rglob("*.mkv"):
        two = tmp_path / "two" / one.relative_to(tmp_path / "one")
        assert one.read_bytes() == two.read_bytes()
    file = open_codes(small)[0]
    assert file.header.coder
    prior = vqvideo.load(models[3]).prior
    codes = open_codes(tmp_path / "plain")[0].get_codes(0)
    assert (file.header.segment, codes.shape[0]) == (4, 6)
    nats = -sum(prior.log_prob(part[None]).item() for part in codes.split(4))
    checks = 2 * 8 * (2 + 6)  # of two segments: the length, and two sums
    assert len(file.get_bytes(0)) * 8 == pytest.approx(nats / np.log(2) + checks, rel=0.02, abs=64)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 16383, 16384, 70000])
def test_segments_of_any_length_come_apart_again(size):
    clip = CodeClip(source="a", start=0, length=8, grid=(3,), rate=1.0)
    parts = [b"x" * size, b"", b"yz" * size]
    data = b"".join(compressed_codes._encode_varint(len(part)) + part for part in parts)
    assert compressed_codes._parse_segments(data, clip, 1) == parts
    for damaged in (data[:-1] if size else data + b"\0", data + b"\1", data + b"\0"):
        with pytest.raises(ValueError, match="the bytes of a do not match its segments"):
            compressed_codes._parse_segments(damaged, clip, 1)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [3, 10**9])
@pytest.mark.parametrize(
    "data", [b"\x80" * 10**6, b"\xff" * 10**6, b"\0" * 10**6, b"\xff" * 8 + b"\1", b"\x83"]
)
def test_forged_lengths_of_segments_take_no_time_and_no_memory(data, grid):
    clip = CodeClip(source="a", start=0, length=grid, grid=(grid,), rate=1.0)
    tracemalloc.start()
    with pytest.raises(ValueError, match="the bytes of a do not match its segments"):
        compressed_codes.decompress(None, 1, [compressed_codes.ConditionedClip(clip, None)], [data])
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()


def test_another_prior_or_a_damaged_segment_is_refused_by_name(folder, models, tmp_path):
    pytest.importorskip("constriction")
    out = tmp_path / "small"
    options = EncodeOptions(compress=True, size=(16, 20))
    files, _ = encode(str(folder), str(out), model=models[3], options=options)
    generator = vqvideo.load(models[3])
    next(generator.prior.parameters()).data += 0.1
    vqvideo.save(generator, tmp_path / "other")
    with pytest.raises(ValueError, match="compressed under a prior with fingerprint"):
        decode(str(out), str(tmp_path / "x"), model=str(tmp_path / "other"))
    whole, data = files[0].read_bytes(), CodeFile(files[0]).get_bytes(2)
    place = whole.rindex(data) + len(data) // 2
    files[0].write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(CodeFileError, match=r"b/d.mkv|damaged"):
        decode(str(out), str(tmp_path / "x"), model=models[3])


@pytest.mark.slow
def test_a_prior_trains_from_code_files_of_media_and_of_a_run(folder, models, tmp_path):
    config = TrainingConfig(steps=2, batch_size=2, eval_every=1, precision="fp32")
    codes, run = tmp_path / "codes", tmp_path / "run"
    encode(str(folder), str(codes), model=models[3])
    figures = train_prior(
        vqvae=models[3], data=str(codes), out=str(run), config=config, clip_stride=4
    )
    assert figures["nats_per_code"] > 0
    media_run = tmp_path / "media"
    train_prior(vqvae=models[3], data=str(folder), out=str(media_run), config=config)
    assert len(open_codes(media_run / "codes")) > 0
    again = tmp_path / "again"
    train_prior(vqvae=models[3], data=str(media_run), out=str(again), config=config)
    assert not (again / "codes").exists()
    message = "clip_stride must be a multiple of 4, the data steps per code; got 6"
    with pytest.raises(ValueError, match=message):
        train_prior(
            vqvae=models[3], data=str(codes), out=str(run / "x"), config=config, clip_stride=6
        )
    with pytest.raises(CodeFileError, match="codes of another tokenizer"):
        train_prior(vqvae="video", data=str(codes), out=str(run / "y"), config=config)


@pytest.mark.slow
def test_actions_and_classes_go_through_code_files_to_the_prior(models, tmp_path):
    pytest.importorskip("constriction")
    data = tmp_path / "data"
    data.mkdir()
    items = []
    for number in range(3):
        media.write_lossless(data / f"{number}.mkv", make_blobs(18, 64, 64, number), 10)
        np.save(data / f"{number}.npy", np.arange(17) % 3)
        split = "test" if number == 2 else "train"
        name = "even" if number % 2 == 0 else "odd"
        items.append(Item(data / f"{number}.mkv", split, name, None, data / f"{number}.npy"))
    write_metadata(data, items)
    out = tmp_path / "codes"
    encode(str(data), str(out), model=models[3])
    file = open_codes(out)[0]
    assert [clip.split for clip in file.clips] == ["train", "train", "test"]
    assert file.get_actions(0).tolist() == [0, *(n % 3 for n in range(17))]
    cond = {"num_classes": 2, "num_actions": 3}
    config = TrainingConfig(steps=1, batch_size=2, precision="fp32")
    train_prior(
        vqvae=models[3],
        data=str(out),
        out=str(tmp_path / "run"),
        config=config,
        prior={"cond": cond},
    )
    prior = vqvideo.load(tmp_path / "run" / "model").prior
    assert prior.cond.class_names == ("even", "odd")
    small = EncodeOptions(compress=True, size=(16, 16))
    encode(str(data), str(tmp_path / "small"), model=str(tmp_path / "run"), options=small)
    targets = decode(str(tmp_path / "small"), str(tmp_path / "x"), model=str(tmp_path / "run"))
    assert media.probe(targets[0]).num_frames == 18


def test_the_commands_say_what_they_made(folder, models, tmp_path, capsys):
    out = str(tmp_path / "codes")
    assert main(["encode", str(folder), out, "--model", models[3], "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["clips"] == 3
    assert Path(said["files"][0]).is_file()
    assert main(["decode", out, str(tmp_path / "again"), "--model", models[3]]) == 0
    assert capsys.readouterr().out.split()[0] == str(tmp_path / "again" / "a.mp4")
    assert main(["encode", str(folder), out, "--model", models[3], "--size", "32x32"]) == 1
    assert "size changed; give" in capsys.readouterr().err


def test_a_model_of_images_encodes_each_frame_of_a_video(clips, tmp_path):
    torch.manual_seed(0)
    narrow = {"width": 8, "num_blocks": 1}
    prior = {"width": 8, "num_layers": 2}
    generator = vqvideo.build("image", encoder=narrow, decoder=narrow, prior=prior)
    vqvideo.save(generator, tmp_path / "model")
    files, figures = encode(str(clips), str(tmp_path / "codes"), model=str(tmp_path / "model"))
    assert figures["clips"] == 12 * 20
    read = CodeFile(files[0])
    clip = read.clips[3]
    assert (clip.source, clip.start) == ("00.mp4", 3)
    frame = media.read_video(clips / "00.mp4", [3]).frames[None, :, 0]
    assert torch.equal(read.get_codes(3, 0, 16), generator.eval().vqvae.encode(frame)[0])


def save_small_image_model(folder, **changes):
    torch.manual_seed(0)
    narrow = {"width": 8, "num_blocks": 1}
    quantizer, prior = {"codebook_size": 5, "code_dim": 3}, {"width": 8, "num_layers": 2}
    parts = {"encoder": narrow, "decoder": narrow, "quantizer": quantizer, "prior": prior}
    generator = vqvideo.build("image", **{"sample_shape": (8, 8), **parts, **changes})
    generator.vqvae.train().loss(torch.rand(4, 3, *generator.config.sample_shape) * 2 - 1)
    vqvideo.save(generator.eval(), folder)
    return vqvideo.load(folder).vqvae


def write_images(folder, number):
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for index in range(number):
        picture = torch.rand(3, 40, 50, generator=draw) * 2 - 1
        media.write_image(folder / f"{index:02d}.png", picture)


def test_an_encoder_that_looks_at_all_of_an_image_encodes_images(tmp_path):
    encoder = {"name": "timm", "model": "test_convnext", "width": 8, "num_blocks": 1}
    small = {"encoder": encoder, "sample_shape": (32, 24)}
    vqvae = save_small_image_model(tmp_path / "model", **small)
    write_images(tmp_path / "data", 20)
    told = {"model": str(tmp_path / "model")}
    files, figures = encode(str(tmp_path / "data"), str(tmp_path / "codes"), **told)
    assert len(files) == 1, "images are counted as windows, not as films"
    read = CodeFile(files[0])
    assert figures["clips"] == len(read) == 20
    seen = set()
    for index, clip in enumerate(read.clips):
        assert (clip.start, clip.length, clip.grid, clip.rate) == (0, 32, (8, 6), 0)
        x = media.read_image(tmp_path / "data" / clip.source, size=(32, 24))
        codes = read.get_codes(index)
        assert (codes == vqvae.encode(x[None])[0]).float().mean() > 0.95, "but for rounding"
        seen |= set(codes.unique().tolist())
    assert len(seen) > 1
    targets = decode(str(tmp_path / "codes"), str(tmp_path / "again"), **told)
    assert media.read_image(targets[7]).shape == (3, 32, 24)


def test_an_autoregressive_likelihood_draws_a_decoded_image_as_a_whole(tmp_path):
    likelihood = {
        "name": "autoregressive",
        "num_features": 4,
        "prior": {"width": 8, "num_layers": 2},
    }
    vqvae = save_small_image_model(tmp_path / "model", likelihood=likelihood)
    write_images(tmp_path / "data", 2)
    data, codes, again = (str(tmp_path / name) for name in ("data", "codes", "again"))
    told = ["--model", str(tmp_path / "model")]
    assert main(["encode", data, codes, *told]) == 0
    assert main(["decode", codes, again, *told]) == 0
    for name in ("00.png", "01.png"):
        x = media.read_image(tmp_path / "data" / name, size=(8, 8))
        expected = vqvae.decode(vqvae.encode(x[None]))[0]
        found = media.read_image(tmp_path / "again" / name)
        assert torch.equal(media.to_uint8(found), media.to_uint8(expected))


def test_the_frames_of_a_video_fill_code_files_as_windows_do(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(encode_module.UNITS_PER_SHARD, "windows", 100)
    save_small_image_model(tmp_path / "model")
    files, _ = encode(str(clips), str(tmp_path / "codes"), model=str(tmp_path / "model"))
    assert [len(CodeFile(file)) for file in files] == [100, 100, 40]
