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

pytestmark = pytest.mark.slow

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


LAUNCHERS = {  # what tells the processes of a launcher apart on a machine without GPUs
    "accelerate launch --cpu": {"ACCELERATE_USE_CPU": "true"},
    "torchrun": {"CUDA_VISIBLE_DEVICES": ""},
}


def train_in_two_processes(stage, launcher, clips, out, **cut):
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
            "OMP_NUM_THREADS": "1",
            **LAUNCHERS[launcher],
        }
        command = [sys.executable, "-c", code]
        processes.append(
            subprocess.Popen(command, env={**os.environ, **told}, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


@pytest.mark.parametrize(("stage", "launcher"), list(zip(STAGES, LAUNCHERS, strict=True)))
def test_two_processes_learn_what_one_does(stage, launcher, clips, tmp_path):
    STAGES[stage](clips, tmp_path / "one", batch_size=4)
    train_in_two_processes(stage, launcher, clips, tmp_path / "two", batch_size=2)
    assert_same_training(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_commands_train_both_stages_under_a_launcher_without_gpus(launcher, clips, tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment.pop("ACCELERATE_USE_CPU", None)
    command = {
        "torchrun": ["torch.distributed.run", "--nproc_per_node", "2", "--standalone"],
        "accelerate launch --cpu": [
            *("accelerate.commands.launch", "--cpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        ],
    }[launcher]
    nets = ["widths=[4,6]", "num_blocks=[0,1]"]
    changes = [f"{part}.{each}" for part in ("encoder", "decoder") for each in nets]
    changes += ["quantizer.codebook_size=8", "quantizer.code_dim=4", "quantizer.init=data"]
    first, second = tmp_path / "first", tmp_path / "second"
    size = ["--steps", "2", "--batch-size", "2", "--precision", "fp32"]
    stages = [
        ["train-vqvae", "--model", "video", "--data", clips, "--out", first],
        ["train-prior", "--vqvae", first, "--data", clips, "--out", second],
    ]
    for stage, settings in zip(stages, (changes, ["width=8", "num_layers=2"]), strict=True):
        stage += [word for setting in settings for word in ("--set", setting)]
    for stage in stages:
        arguments = [sys.executable, "-m", *command, "-m", "vqvideo", *map(str, stage), *size]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        names = [line.split(":")[0] for line in done.stdout.splitlines()]
        assert names and len(set(names)) == len(names)  # printed by the main process only
    assert (second / "model" / "model.safetensors").is_file()
