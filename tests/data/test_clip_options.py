"""What `vqvideo train-vqvae` says and does about the files it trains on."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from vqvideo import media
from vqvideo.cli import main

SMALL = ["--set", "encoder.widths=[8,12]", "--set", "decoder.widths=[8,12]"]
SMALL += ["--set", "encoder.num_blocks=[1,1]", "--set", "decoder.num_blocks=[1,1]"]
SMALL += ["--set", "quantizer.codebook_size=16", "--precision", "fp32"]


@pytest.fixture
def run_command(tmp_path):
    """Trains one step on three files, the last of them no video."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        clip = torch.rand(3, 20, 64, 64, generator=torch.Generator().manual_seed(number))
        media.write_video(data / f"{number}.mp4", clip * 2 - 1, fps=8)
    (data / "2.mp4").write_text("no video")
    where = ["--model", "video", "--data", str(data), "--out", str(tmp_path / "run")]
    return ["train-vqvae", "--json", *where, "--steps", "1", *SMALL]


def test_a_file_that_is_no_video_ends_the_command_with_its_name(run_command, capsys):
    assert main(run_command) == 1
    assert "1 of 2 files cannot be read" in (said := capsys.readouterr().err)
    assert "2.mp4" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_rate_cache_and_share_of_corrupt_files_are_options(run_command, capsys, tmp_path):
    cache = tmp_path / "decoded"
    options = ["--fps", "16", "--cache-dir", str(cache), "--max-corrupt", "0.5"]
    assert main([*run_command, *options]) == 0
    out, said = capsys.readouterr()
    assert set(json.loads(out)) >= {"psnr_db"}
    assert said.count("unreadable files skipped (train): 1") == 1
    assert said.count("2.mp4") == 1
    for file in cache.iterdir():
        with safe_open(file, "pt") as opened:
            assert opened.get_slice("frames").get_shape() == [40, 3, 64, 64]
    assert len(list(cache.iterdir())) == 2
