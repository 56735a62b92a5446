"""`python tools/benchmark.py reading` and `streaming`, at sizes that take no time."""

import json

import pytest
import torch
from benchmarks import reading, streaming
from benchmarks.cli import main

from vqvideo import media

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_benchmark(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.MIN_ROUND_SECONDS", 0.001)
    monkeypatch.setattr(streaming, "CLIP_SHAPES", ((2, 4, 16),))


@pytest.fixture
def folder(tmp_path):
    for number, length in enumerate((20, 12, 3)):
        frames = torch.rand(3, length, 24, 32, generator=torch.Generator().manual_seed(number))
        media.write_video(tmp_path / f"{number}.mp4", frames, fps=8)
    return tmp_path


def test_clips_are_read_by_each_reader_from_the_same_places(folder, monkeypatch):
    pytest.importorskip("decord")
    read: dict[str, list[int]] = {"ours": [], "plain": [], "decord": []}
    read_video, decord, plain = (
        media.read_video,
        reading._open_decord_reader,
        reading._open_pyav_reader,
    )

    def ours(file, numbers, size):
        read["ours"].append(numbers[0])
        return read_video(file, numbers, size=size)

    def noted(name, make):
        def made(*args):
            inner = make(*args)
            return lambda start: (read[name].append(start), inner(start))[1]

        return made

    monkeypatch.setattr(media, "read_video", ours)
    monkeypatch.setattr(reading, "_open_decord_reader", noted("decord", decord))
    monkeypatch.setattr(reading, "_open_pyav_reader", noted("plain", plain))
    steps = []
    rows = reading.benchmark_reading(
        [str(folder)], num_frames=5, side=32, rounds=1, progress=lambda *step: steps.append(step)
    )
    assert [row["files"] for row in rows] == [2], "the third is too short"
    assert all(ms > 0 for ms in rows[0]["ms"].values())
    assert steps == [(1, 2), (2, 2)]
    fewest = min(map(len, read.values()))
    assert len(set(read["ours"])) > 3
    assert read["ours"][:4] == read["plain"][:4] == read["decord"][:4]
    assert fewest >= 2 * 2 * reading.CLIPS_PER_TURN


def test_the_plain_loop_and_decord_read_the_frames_asked_for(folder):
    pytest.importorskip("decord")
    file = folder / "0.mp4"
    expected = media.read_video(file, range(7, 12)).frames
    plain = reading._open_pyav_reader(file, 5, 32)(7)
    assert plain.shape == (5, 3, 32, 32)
    whole = torch.from_numpy(reading._open_decord_reader(file, 5, 32)(7))
    assert whole.shape == (5, 32, 32, 3)
    mean = (media.to_uint8(expected).float().mean(dim=(0, 2, 3)), plain.float().mean(dim=(1, 2, 3)))
    assert (mean[0] - mean[1]).abs().max() < 3
    assert (mean[0] - whole.float().mean(dim=(1, 2, 3))).abs().max() < 3


def test_files_that_decord_counts_wrongly_are_counted(folder, monkeypatch, capsys):
    monkeypatch.setattr(reading, "_open_decord_reader", lambda *args: None)
    arguments = ["reading", str(folder), "--num-frames", "5", "--rounds", "1"]
    assert main([*arguments, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["miscounted"] == row["files"] == 2
    assert row["ms"]["decord"] is None
    assert main(arguments) == 0
    assert capsys.readouterr().out.split("\n")[3].split()[-1] == "2"
    assert main(["reading", str(folder), "--num-frames", "99"]) == 1
    assert "has no video of 99 frames or more" in capsys.readouterr().err


def test_streaming_gives_memory_and_times_beside_one_call(capsys):
    arguments = ["streaming", "--lengths", "4,20", "--side", "16", "--rounds", "1"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["frames"] for row in found["memory"]] == [4, 20]
    assert all(row["peak_mib"] > 100 for row in found["memory"])
    names = {"encode", "encode, one call", "decode", "decode, one call"}
    assert set(found["times"][0]["ms"]) == names
    text = streaming.format_streaming_table(found)
    assert "Memory of encoding a stream of 16x16 frames" in text
    ratio = found["memory"][1]["peak_mib"] / found["memory"][0]["peak_mib"]
    assert f"{ratio:.3f}x" in text


@pytest.mark.parametrize("option", ["lengths", "side", "rounds"])
def test_impossible_streams_are_refused(option):
    number = [0] if option == "lengths" else 0
    with pytest.raises(ValueError, match=f"{option.removesuffix('s')}s? must be at least 1, got 0"):
        streaming.benchmark_streaming(**{option: number})
