"""One step cut into batches and processes learns what one large batch in one process does."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import vqvideo
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_prior, train_vqvae

CONFIG = {
    "steps": 6,
    "eval_every": 3,
    "optimizer": OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
    "precision": "fp32",
}
# The codes of a batch come from an encoder whose sums round with the size of the batch; a code that
# flips at a boundary would be no fault of what is tested, and none does.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
# Blocks that begin at zero get gradients at first that are rounding errors, and AdamW makes those
# as large as any others.
NETS = {"widths": (6, 8), "num_blocks": (1, 1), "linear_init": False}
SMALL = {
    "encoder": NETS,
    "decoder": NETS,
    "quantizer": {"codebook_size": 8, "code_dim": 4, "init": "data", "warmup_steps": 1},
    "prior": {"width": 8, "num_layers": 2, "dropout": 0.0},  # which is drawn for each batch
}


def train_first_stage(clips, out, quantizer="ema", **cut):
    torch.manual_seed(0)
    generator = vqvideo.build(
        "video", **{**SMALL, "quantizer": {"name": quantizer, **SMALL["quantizer"]}}
    )
    sets = (
        ClipDataset(clips, (16, 64, 64), clip_stride=1, split=split) for split in ("train", "test")
    )
    train_vqvae(generator, *sets, out, TrainingConfig(**CONFIG, **cut))


def train_second_stage(clips, out, **cut):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **SMALL)
    draw = torch.Generator().manual_seed(1)
    data = [{"codes": torch.randint(8, (2, 4, 5), generator=draw)} for _ in range(19)]
    generator.sample_shape = (8, 16, 20)
    # AdamW makes of a gradient that is nearly zero, and so of its rounding, a step like any other.
    plain = OptimizerConfig(name="sgd", learning_rate=0.3, warmup_steps=2)
    train_prior(generator, data, data, out, TrainingConfig(**{**CONFIG, "optimizer": plain}, **cut))


STAGES = {"vqvae": train_first_stage, "prior": train_second_stage}


def assert_same_training(one, other):
    a, b = (load_file(path / "model" / "model.safetensors") for path in (one, other))
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("quantizer", ["ema", "vector"])
def test_batches_of_a_step_are_one_large_batch_to_the_first_stage(quantizer, clips, tmp_path):
    train_first_stage(clips, tmp_path / "whole", quantizer, batch_size=6)
    for batch_size, accumulate in ((3, 2), (2, 3)):
        out = tmp_path / str(accumulate)
        train_first_stage(
            clips, out, quantizer, batch_size=batch_size, gradient_accumulation_steps=accumulate
        )
        assert_same_training(tmp_path / "whole", out)


def test_batches_of_a_step_are_one_large_batch_to_a_prior(clips, tmp_path):
    train_second_stage(clips, tmp_path / "whole", batch_size=6)
    train_second_stage(clips, tmp_path / "cut", batch_size=2, gradient_accumulation_steps=3)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def train_in_two_processes(stage, clips, out, **cut):
    """The same run in two processes, as a launcher starts them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    code = (
        "import sys, runpy\n"
        f"tests = runpy.run_path({__file__!r})\n"
        f"tests['STAGES'][{stage!r}]({str(clips)!r}, __import__('pathlib').Path({str(out)!r}), "
        f"**{cut!r})\n"
    )
    processes = []
    for rank in range(2):
        told = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", code]
        processes.append(
            subprocess.Popen(command, env={**os.environ, **told}, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_learn_what_one_does(stage, clips, tmp_path):
    STAGES[stage](clips, tmp_path / "one", batch_size=4)
    train_in_two_processes(stage, clips, tmp_path / "two", batch_size=2)
    assert_same_training(tmp_path / "one", tmp_path / "two")
