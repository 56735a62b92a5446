"""`python tools/benchmark.py playing`: how long the next frame takes."""

import re
import time

import pytest
from benchmarks import playing
from benchmarks.cli import main
from benchmarks.playing import benchmark_playing, format_playing_table

import vqvideo

pytestmark = pytest.mark.slow


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that says of each frame of a turn that it took a millisecond more than the last."""
    number = -1

    def perf_counter():
        nonlocal number
        number += 1
        frame, is_end = divmod(number, 2)
        return (frame % playing.FRAMES_PER_TURN + 1) / 1000 * is_end

    monkeypatch.setattr(playing, "measure_unit_ms", lambda: 50.0)
    monkeypatch.setattr(playing.time, "perf_counter", perf_counter)


def test_each_way_of_drawing_takes_its_turn_and_the_start_is_left_out(monkeypatch, small_model):
    drawn, told = [], []
    steps = playing._iterate_frames

    def noted(generator, method, seed):
        for step in steps(generator, method, seed):
            drawn.append(method)
            yield step

    monkeypatch.setattr(playing, "_iterate_frames", noted)
    monkeypatch.setattr(playing, "measure_unit_ms", lambda: 50.0)
    found = benchmark_playing(
        model=str(small_model), num_frames=25, progress=lambda *done: told.append(done)
    )
    ways = [way for way, ms in found["ms"].items() if ms is not None]
    expected = [way for way in ways for _ in range(playing.NUM_WARMUP_FRAMES)]
    for turn in (20, 5):
        expected += [way for way in ways for _ in range(turn)]
    assert drawn == expected
    assert told == [(20, 25), (25, 25)]


def test_milliseconds_are_those_of_one_frame_and_their_spread(slow_clock, small_model):
    found = benchmark_playing(model=str(small_model), num_frames=20)
    frames_of_a_code = 4  # of the model `video`
    ms = found["ms"]["cached"]
    assert ms["median"] == pytest.approx(10.5 / frames_of_a_code)
    assert ms["p5"] == pytest.approx(1.95 / frames_of_a_code)
    assert ms["p95"] == pytest.approx(19.05 / frames_of_a_code)


def test_the_table_says_frames_per_second_beside_the_recordings():
    ms = {"p5": 20.0, "median": 25.0, "p95": 50.0}
    found = {
        "ms": {"fused": None, "cached": ms},
        "rate": 8.0,
        "unit_ms": 50.0,
        "model": "m",
        "num_frames": 30,
    }
    setting = {"torch": "1", "python": "3", "cpu": "c", "threads": 2}
    found["environment"] = {**setting, "thp_mem_alloc_enable": None, "load_average": None}
    lines = [line.split() for line in format_playing_table(found).splitlines()]
    assert ["cached", "25.0", "20.0", "50.0", "0.500", "40.0", "20.0", "5.00x"] in lines
    assert ["fused", *["-"] * 7] in lines


def test_the_command_times_a_model_conditioned_on_actions(tmp_path, capsys):
    start = time.monotonic()
    assert main(["playing", "--num-frames", "20"]) == 0
    text = capsys.readouterr().out
    assert "maze: 20 code frames after 10 warm-up frames; recordings have 8.75 frames/s" in text
    median = float(re.search(r"^cached +([0-9.]+)", text, re.MULTILINE)[1])
    assert 30 * median / 1000 < time.monotonic() - start


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_frames": 19}, "num_frames must be at least 20 for 5 % quantiles"),
        ({"num_threads": 0}, "threads must be at least 1, got 0"),
        ({"model": "image"}, "image has no prior over the codes of video"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        benchmark_playing(**options)


@pytest.mark.parametrize("cond", [{"num_classes": 3}, {"action_dim": 2}])
def test_a_model_with_other_conditions_is_refused(tmp_path, cond):
    nets = {"widths": (8, 12), "num_blocks": (1, 1)}
    prior = {"width": 8, "num_layers": 2, "cond": cond}
    vqvideo.save(vqvideo.build("video", encoder=nets, decoder=nets, prior=prior), tmp_path / "m")
    with pytest.raises(
        ValueError, match="must be unconditional or conditioned on discrete actions"
    ):
        benchmark_playing(model=str(tmp_path / "m"))
