"""The two benchmarks that train, on almost nothing."""

import json

import pytest
import torch
from benchmarks import codebooks
from benchmarks.cli import main

from vqvideo import media

pytestmark = pytest.mark.slow


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        picture = torch.full((3, 64, 64), number / 10 - 1)
        media.write_image(folder / f"{number}.png", picture)
    return folder


def test_the_table_of_beta_has_means_over_seeds_and_complete_runs_are_not_run_again(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(codebooks, "BETAS", (0.1, 2.0))
    line = ["beta", "--data", str(image_folder), "--out", str(tmp_path / "runs")]
    line += ["--steps", "2", "--seeds", "2", "--json"]
    assert main(line) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["beta"] for row in rows] == [0.1, 2.0]
    for row in rows:
        name = f"beta-{row['beta']}-seed-"
        logs = [(tmp_path / "runs" / f"{name}{seed}" / "log.jsonl") for seed in (0, 1)]
        ends = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
        for figure in ("val_psnr_db", "val_perplexity"):
            values = [end[figure] for end in ends]
            assert row[figure] == pytest.approx(sum(values) / 2, abs=0.006)
            assert row[f"{figure}_range"] == pytest.approx([min(values), max(values)], abs=0.006)
    monkeypatch.setattr(codebooks, "train_vqvae", None)  # calling it again would fail
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert main([*line, "--steps", "3"]) == 1  # a table of both would mean nothing
    assert "holds runs with other settings" in capsys.readouterr().err


def test_both_codebooks_are_drawn_into_one_plot(image_folder, tmp_path, capsys):
    line = ["codebooks", "--data", str(image_folder), "--out", str(tmp_path / "runs")]
    assert main([*line, "--steps", "2", "--seeds", "1"]) == 0
    picture = tmp_path / "runs" / "curves.png"
    assert capsys.readouterr().out.strip() == str(picture)
    assert media.read_image(picture).shape[0] == 3
    assert {run.name for run in picture.parent.iterdir()} == {
        "curves.png",
        "settings.json",
        "ema-seed-0",
        "vector-seed-0",
    }


def test_no_seeds_are_refused_before_anything_is_trained(image_folder, tmp_path, capsys):
    line = ["beta", "--data", str(image_folder), "--out", str(tmp_path / "runs")]
    assert main([*line, "--seeds", "0"]) == 1
    assert "seeds must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
