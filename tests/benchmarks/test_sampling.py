"""`python tools/benchmark.py sampling`, at sizes that take no time."""

import json

import pytest
import torch
from benchmarks import sampling, timing
from benchmarks.cli import main

from vqvideo.report.environment import collect_environment, format_environment

pytestmark = pytest.mark.slow

SMALL = {
    "wavenet": sampling.SamplingCase("wavenet", (6,), 7, {"num_layers": 2, "width": 8}),
    "masked3d": sampling.SamplingCase("masked3d", (2, 3, 4), 7, {"num_layers": 2, "width": 8}),
    "transformer": sampling.SamplingCase(
        "transformer", (2, 3), 7, {"num_layers": 1, "width": 8, "num_heads": 1}
    ),
}


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLING_CASES", SMALL)
    monkeypatch.setattr(timing, "UNIT_SHAPE", (8, 4, 5))
    monkeypatch.setattr("benchmarks.timing.MIN_ROUND_SECONDS", 0.001)


def test_every_prior_and_batch_has_its_row():
    calls = []
    rows = sampling.benchmark_sampling(
        rounds=1, num_threads=1, batches=(1, 2), progress=lambda *call: calls.append(call)
    )
    assert [(row["prior"], row["batch"]) for row in rows] == [
        (name, batch) for name in SMALL for batch in (1, 2)
    ]
    for row in rows:
        us = row["us"]
        fused = row["batch"] == 1 and row["prior"] != "transformer"
        assert (us["fused"] is not None) == (us["weights"] is not None) == fused
        assert all(time > 0 for time in us.values() if time is not None)
        assert us["bare"] < us["full"]
    assert calls[-1] == (12, 12)


def test_bare_products_are_those_of_one_pass():
    size, calls = SMALL["masked3d"], []
    prior = size.build()
    passes = sampling._build_pass_calls(prior, size, 2)
    for layer in prior.modules():
        if isinstance(layer, torch.nn.Conv3d | torch.nn.Linear):
            layer.register_forward_hook(lambda layer, x, y: calls.append((layer, y.shape)))
    passes["full"].fn()
    of_the_pass = list(calls)
    calls.clear()
    passes["bare"].fn()
    assert calls == of_the_pass
    assert len(calls) == 2 * 7 + 2  # T and what it gives twice, V and what it gives, H, out; head


def test_a_codes_time_is_that_of_a_grid_over_its_codes(monkeypatch):
    times = {"full": 3.0, "bare": 2.0, "cached": 24.0, "fused": 12.0, "unit": 1.0}
    readings = {f"{stack}{copy}": ms for stack, ms in (("H", 0.5), ("V", 0.4), ("T", 1.2))
                for copy in range(sampling.NUM_WEIGHT_COPIES)}  # fmt: skip
    monkeypatch.setattr(sampling, "measure_median_ms", lambda timed, **given: {**times, **readings})
    us = sampling.benchmark_sampling(priors=["masked3d"], batches=[1])[0]["us"]
    assert us["cached"] == 1000  # 24 codes
    assert us["fused"] == 500
    assert us["full"] == 3000
    assert us["weights"] == pytest.approx(500 + 400 / 4 + 1200 / 12)


def test_the_command_prints_a_table_with_ratios(monkeypatch, capsys):
    monkeypatch.setattr(
        sampling,
        "measure_median_ms",
        lambda timed, **given: {"full": 9, "bare": 6, "cached": 0.6, "unit": 1},
    )
    assert main(["sampling", "--priors", "wavenet", "--batches", "2"]) == 0
    first, _, heads, row = capsys.readouterr().out.splitlines()
    assert first.startswith("vqvideo ")
    assert "numba" in first
    cells = dict(zip(heads.split(), row.split(), strict=True))
    assert cells["full/bare"] == "1.50x"
    assert cells["full/cached"] == "90.0x"
    assert cells["fused"] == "-"
    assert cells["codes/s"] == str(round(2e6 / 100))


def test_as_json_the_command_prints_the_rows(capsys):
    words = ["--priors", "wavenet", "--batches", "1", "--rounds", "1", "--threads", "1", "--json"]
    assert main(["sampling", *words]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["prior"] == "wavenet"
    assert row["environment"]["threads"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priors": ["lstm"]}, "unknown prior 'lstm'; known: wavenet, masked3d, transformer"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"num_threads": 0}, "threads must be at least 1, got 0"),
        ({"batches": [1, 0]}, "batch must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sampling.benchmark_sampling(**options)


def test_a_package_that_is_not_there_has_no_version():
    line = format_environment(collect_environment("no-such-package"))
    assert "no-such-package (none)" in line
