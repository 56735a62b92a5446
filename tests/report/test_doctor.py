"""`vqvideo doctor` from the command line, on a small model and a few clips."""

import json
import sys

import pytest
import torch
from PIL import Image

import vqvideo
from vqvideo.cli import main
from vqvideo.config import build_generator
from vqvideo.data.clips import ClipDataset
from vqvideo.sampling import describe_auto_method


@pytest.fixture
def run_command(small_model, clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["doctor", "--model", str(small_model), "--data", str(clips)]


@pytest.mark.slow
def test_doctor_prints_metrics_and_advice_and_draws_a_plot(
    run_command, small_model, clips, tmp_path, capsys
):
    assert main(run_command) == 0
    printed = capsys.readouterr()
    data = ClipDataset(clips, (16, 64, 64), split="test")
    report = vqvideo.codebook_report(vqvideo.load(small_model), data)
    figures = report.codebooks[0]
    assert printed.err == ""  # no terminal, no progress bar
    assert printed.out.splitlines() == [
        "codebook_size: 32",
        "code_dim: 8",
        "num_codes: 1024",
        f"usage: {figures.usage:.4g}",
        f"perplexity: {figures.perplexity:.4g}",
        f"num_dead: {figures.num_dead}",
        f"num_duplicates: {figures.num_duplicates}",
        f"effective_dimension: {figures.effective_dimension:.4g}",
        f"norm_ratio: {figures.norm_ratio:.4g}",
        f"advice: {report.advice}",
        f"sampling: {describe_auto_method(vqvideo.load(small_model).prior)}",
        "outputs/codebook.png",
    ]
    with Image.open(tmp_path / "outputs" / "codebook.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.slow
def test_doctor_as_json_is_the_report_and_the_file(run_command, small_model, clips, capsys):
    words = ["--split", "train", "--clip-stride", "4", "--out", "new/a.png", "--device", "cpu"]
    assert main([*run_command, *words, "--json"]) == 0
    data = ClipDataset(clips, (16, 64, 64), split="train", clip_stride=4)
    report = vqvideo.codebook_report(vqvideo.load(small_model), data)
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "file": "new/a.png",
        "sampling": describe_auto_method(vqvideo.load(small_model).prior),
        **report.to_dict(),
    }


@pytest.mark.slow
def test_several_codebooks_stand_beside_each_other(run_command, small_changes, tmp_path, capsys):
    part = {"codebook_size": 8, "code_dim": 4, "warmup_steps": 1}
    changes = {**small_changes, "quantizer": {"name": "product", "part": part}}
    config = vqvideo.build("video").config.merge(**changes)
    torch.manual_seed(0)
    generator = build_generator(config, with_prior=False)
    generator.vqvae.train().loss(torch.rand(2, 3, 16, 64, 64) * 2 - 1)
    vqvideo.save(generator, tmp_path / "two")
    run_command[2] = str(tmp_path / "two")
    assert main(run_command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["codebook_size: 8  8", "code_dim: 4  4", "num_codes: 1024  1024"]


def test_what_would_fail_in_the_end_fails_before_the_work(
    run_command, tmp_path, capsys, monkeypatch
):
    def complaint(*words):
        assert main([*run_command, *words]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    monkeypatch.setattr("vqvideo.commands.doctor.load_model", None)  # work has begun
    assert complaint("--out", "a.mp4") == "vqvideo: --out must end in .png, got 'a.mp4'\n"
    (tmp_path / "a.png").write_text("mine")
    assert "a.png exists; give another --out or --overwrite" in complaint("--out", "a.png")
    assert (tmp_path / "a.png").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'vqvideo[report]'" in complaint("--out", "a.png", "--overwrite")


def test_overwrite_replaces_the_plot(run_command, tmp_path):
    (tmp_path / "a.png").write_text("old")
    assert main([*run_command, "--out", "a.png", "--overwrite"]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
