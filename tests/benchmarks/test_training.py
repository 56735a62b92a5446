"""`python tools/benchmark.py training`, on almost nothing."""

import json

import pytest
from benchmarks import training
from benchmarks.cli import main
from benchmarks.training_table import format_training_table

import vqvideo
from vqvideo import media
from vqvideo.config import MODELS

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny_benchmark(monkeypatch, small_changes):
    """A registered model that trains in no time."""
    config = vqvideo.build("video", **small_changes).config
    monkeypatch.setitem(MODELS._builders, "tiny", lambda: config)
    monkeypatch.setattr(training, "VARIANTS", [("fp32", False), ("bf16", False)])
    monkeypatch.setattr(training, "WARMUP_STEPS", 1)
    monkeypatch.setattr(training, "TIMED_STEPS", 3)
    monkeypatch.setattr(training, "NUM_EVALS", 1)


def test_each_run_ends_with_its_budget_and_complete_runs_are_not_run_again(
    tiny_benchmark, clips, tmp_path, monkeypatch, capsys
):
    line = ["training", "--data", str(clips), "--out", str(tmp_path / "runs")]
    line += ["--model", "tiny", "--budgets", "0.2,0.4", "--seeds", "1", "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(run["budget"], run["seed"]) for run in found["runs"]] == [(0.2, 0), (0.4, 0)]
    for run in found["runs"]:
        last = run["log"][-1]
        told = tmp_path / "runs" / f"{run['budget']:g}-s-seed-{run['seed']}" / "training.json"
        config = json.loads(told.read_text())
        assert config["steps"] == last["step"] >= 1
        assert config["optimizer"]["name"] == "muon"
        assert 0 < last["step_seconds"] < last["seconds"] + 0.1
    assert found["unit_ms"] > 0 and found["peak_mib"] > 100
    assert all(row["ms"] > 0 and row["first_s"] > 0 for row in found["steps"])
    assert media.read_image(found["picture"]).shape[0] == 3
    monkeypatch.setattr(training, "train_vqvae", None)  # calling it again would fail
    assert main(line) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["runs"] == found["runs"]
    assert main([*line, "--learning-rate", "0.1"]) == 1  # a table of both would mean nothing
    assert "holds runs with other settings" in capsys.readouterr().err


def test_steps_are_planned_for_the_budget_at_the_pace_of_the_moment(
    tiny_benchmark, clips, tmp_path, monkeypatch
):
    timed, configs = [200.0, 100.0], []
    monkeypatch.setattr(training, "_time_steps", lambda *args: {"ms": timed.pop(0)})
    monkeypatch.setattr(training, "VARIANTS", [])
    monkeypatch.setattr(training, "measure_unit_ms", lambda: 50.0)
    monkeypatch.setattr(training, "train_vqvae", lambda **options: configs.append(options))
    learner = training.TrainingBenchmarkConfig(
        data=str(clips), out=str(tmp_path / "runs"), model="tiny"
    )
    training.benchmark_training(learner, budgets=[10.0], seeds=2)
    assert [options["config"].steps for options in configs] == [48, 97]  # 97 % of the budget
    assert [options["config"].seed for options in configs] == [0, 1]
    assert [options["config"].eval_every for options in configs] == [48, 97]


def run(budget, seed, psnr_db, used):
    row = {"step": 9, "step_seconds": budget - 1.0, "val_psnr_db": psnr_db}
    return {"budget": budget, "seed": seed, "log": [{**row, "val_usage": used}]}


def test_the_table_has_medians_over_seeds_and_counts_in_units():
    found = {
        "environment": training.collect_environment(),
        "unit_ms": 50.0,
        "peak_mib": 1234.0,
        "steps": [{"precision": "bf16", "compile": True, "ms": 700.0, "first_s": 20.0}],
        "runs": [run(75.0, 0, 24.0, 0.99), run(75.0, 1, 26.0, 0.97), run(75.0, 2, 25.0, 0.98)],
    }
    lines = [line.split() for line in format_training_table(found).splitlines()]
    assert ["bf16,", "compiled", "700", "14.0", "20.0"] in lines
    assert ["75", "0", "9", "74.0", "1480", "24.00", "99.0%"] in lines
    assert lines[-1] == ["75", "25.00", "24.00", "26.00", "97.0%"]


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"budgets": []}, {"budgets": [3.0, 0.0]}])
def test_budgets_and_seeds_that_make_no_sense_are_refused(wrong, tmp_path):
    learner = training.TrainingBenchmarkConfig(data="nowhere", out=str(tmp_path))
    with pytest.raises(ValueError, match="seeds and budgets must be positive, got"):
        training.benchmark_training(learner, **wrong)
    assert not list(tmp_path.iterdir())
