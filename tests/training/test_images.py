"""Models of images, on the frames of videos: both stages see all of them."""

from __future__ import annotations

import json

import pytest
import torch

import vqvideo
from vqvideo.cli import main

TINY = (
    "sample_shape=[12,12]",
    "strides=[[2,2],[2,2]]",
    "encoder.width=8",
    "decoder.width=8",
    "quantizer.codebook_size=16",
    "quantizer.code_dim=4",
    "prior.strides=[[3,3]]",
    "prior.width=8",
    'prior.quantizer={"name":"product","num_codebooks":3,"part":{"codebook_size":4,"code_dim":2}}',
    'prior.bottom={"name":"pixelcnn","width":8,"num_layers":2}',
    'prior.top={"name":"pixelcnn","width":8,"num_layers":2}',
)


@pytest.mark.slow
def test_the_second_stage_learns_from_as_many_frames_as_the_first(clips, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    data, settings = ["--data", str(clips)], [s for each in TINY for s in ("--set", each)]
    few = ["--steps", "2", "--eval-every", "2", "--precision", "fp32"]
    model = ["--model", "image-84-top", *settings]
    assert main(["train-vqvae", *model, *data, *few, "--out", str(first)]) == 0
    assert main(["train-prior", "--vqvae", str(first), *data, *few, "--out", str(second)]) == 0
    metadata = [
        json.loads((run / "training.json").read_text())["metadata"] for run in (first, second)
    ]
    assert metadata[0]["windows"] == metadata[1]["windows"] == 11 * 20
    assert metadata[0]["num_val_windows"] == metadata[1]["num_val_windows"] == 20
    generator = vqvideo.load(second)
    assert generator.prior.encode_latents(
        generator.vqvae.encode(torch.zeros(1, 3, 12, 12))
    ).shape == (
        1,
        1,
        1,
        3,
    )
    assert generator.sample(num_samples=2).shape == (2, 3, 12, 12)
    command = ["train-prior", "--vqvae", str(first), "--data", str(second), *few]
    assert main([*command, "--out", str(tmp_path / "third"), "--clip-stride", "2"]) == 1
    assert "has codes of single images, so clip_stride does not apply" in capsys.readouterr().err
