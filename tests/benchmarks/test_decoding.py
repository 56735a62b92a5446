"""`python tools/benchmark.py decoding`, for two milliseconds of sound."""

import json
import math

import pytest
from benchmarks.cli import main
from benchmarks.decoding import benchmark_decoding, format_decoding_table


def test_decoders_of_speech_are_timed_beside_each_other(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.decoding.STEPWISE_SECONDS", 0.002)
    assert main(["decoding", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    us = found["us"]
    assert set(us) == {"whole", "field", "cached", "fused", "convolutional"}
    assert us["whole"] > us["field"] > us["cached"] > us["convolutional"] > 0
    text = format_decoding_table(found)
    row = next(line.split() for line in text.splitlines() if line.startswith("cached"))
    assert math.isclose(float(row[2][:-1]), 1e6 / (us["cached"] * 16000), rel_tol=0.01)
    steps = []
    benchmark_decoding(rounds=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        benchmark_decoding(rounds=0)
