"""A training state or a record of a run that was forged is refused with one type of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import vqvideo
from vqvideo.checkpoint import CheckpointError
from vqvideo.model_card import read_or_build_card, write_card
from vqvideo.training.state import HEADER_KEY, ResumeError, get_rng_state, load_state, save_state

VALUES = [None, True, 4.0, -1, 10**30, "x", [], {}, [[1]], {"0": {"a": []}}, [None]]
IMAGE = {"sample_shape": (8, 12), "encoder": {"width": 8, "num_blocks": 1}}
IMAGE |= {"decoder": {"width": 8, "num_blocks": 1}, "quantizer": {"codebook_size": 7}}
IMAGE |= {"prior": {"width": 8, "num_layers": 1}}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def state(tmp_path) -> Path:
    path = tmp_path / "state.safetensors"
    save_state(path, *build(), {"0": torch.ones(2)}, [get_rng_state()], {"step": 1})
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[HEADER_KEY]), tensors


def forge(path: Path, header: str, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, path, metadata={HEADER_KEY: header})


def test_a_state_with_any_value_in_any_entry_is_refused_or_loads(state):
    header, tensors = read(state)
    assert load_state(state, *build())[0] == {"step": 1}
    for name in header:
        for value in VALUES:
            forge(state, json.dumps({**header, name: value}), tensors)
            try:
                load_state(state, *build())
            except ResumeError as error:
                assert str(state) in str(error)
            else:
                assert name != "format_version"
        forge(state, json.dumps({k: v for k, v in header.items() if k != name}), tensors)
        if name != "step":  # of the trainer
            with pytest.raises(ResumeError):
                load_state(state, *build())


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 10**5, '{"format_version": 4}'])
def test_a_state_whose_header_is_no_object_is_refused(state, text):
    forge(state, text, read(state)[1])
    with pytest.raises(ResumeError, match="training state"):
        load_state(state, *build())


@pytest.mark.parametrize(
    "name", ["model.weight", "optimizer.x.exp_avg", "optimizer.0.exp_avg", "random.x.cpu"]
)
def test_a_state_with_a_tensor_of_another_name_or_shape_is_refused_or_loads(state, name):
    header, tensors = read(state)
    for tensor in (torch.zeros(1), torch.zeros(2, 2, dtype=torch.bool)):
        forge(state, json.dumps(header), {**tensors, name: tensor})
        if name != "optimizer.0.exp_avg":  # torch does not check its shape
            with pytest.raises(ResumeError):
                load_state(state, *build())


RECORDS = ["", "{", "[]", "3", '{"steps": 1, "steps": 2}', "[" * 10**5, '"\\ud800"', "{}"]
RECORDS += ['{"steps": "x", "batch_size": [], "metadata": 3}', '{"metadata": {"vqvae": 3}}']


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("file", ["training.json", "log.jsonl"])
def test_a_forged_record_of_a_run_ends_in_a_checkpoint_error(tmp_path, file, record):
    vqvideo.save(vqvideo.build("image", **IMAGE), tmp_path / "model")
    training = {"steps": 3, "batch_size": 2, "gradient_accumulation_steps": 1, "seed": 0}
    training |= {"precision": "float32", "metadata": {}}
    (tmp_path / "training.json").write_text(json.dumps(training))
    (tmp_path / "log.jsonl").write_text('{"step": 3, "val_psnr_db": Infinity}\n')
    assert "inf dB" in read_or_build_card(tmp_path / "model")
    (tmp_path / file).write_text(record)
    if file == "log.jsonl" and record in ("", "{}"):
        assert "psnr" not in read_or_build_card(tmp_path / "model").lower()
        return
    with pytest.raises(CheckpointError):
        write_card(tmp_path)
    assert not (tmp_path / "model" / "README.md").exists()


def test_a_card_that_is_no_text_is_refused(tmp_path):
    vqvideo.save(vqvideo.build("image", **IMAGE), tmp_path / "model")
    (tmp_path / "model" / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"README\.md cannot be read as text"):
        read_or_build_card(tmp_path / "model")
