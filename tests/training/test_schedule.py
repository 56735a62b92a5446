"""How the learning rate goes: a pure function of the step, timm's schedules by name."""

import json
import math
import subprocess
import sys

import pytest
import torch

import vqvideo
from vqvideo.cli import main
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_vqvae
from vqvideo.training import trainer as run_module
from vqvideo.training.optimizer import set_learning_rate
from vqvideo.training.schedule import SCHEDULES, get_lr_factor
from vqvideo.training.state import ResumeError
from vqvideo.training.trainer import Trainer
from vqvideo.training.vqvae import VQVAETask

STEPS = 100
EXPECTED = {  # of the t-th of T steps, counted from 0, as the papers have them
    "linear": lambda t: 1 - 0.95 * t / STEPS,
    "cosine": lambda t: 0.05 + 0.95 * (1 + math.cos(math.pi * t / STEPS)) / 2,
    "poly": lambda t: 0.05 + 0.95 * math.sqrt(1 - t / STEPS),
    "tanh": lambda t: 0.05 + 0.95 * (1 - math.tanh(-7 + 10 * t / STEPS)) / 2,
    "step": lambda t: 0.1 ** (t // 30),
    "multistep": lambda t: 0.1 ** sum(t + 1 >= at for at in (30, 60, 90)),
    "wsd": lambda t: 1 - 0.95 * math.sqrt(max(t - 80, 0) / 20),
    "rsqrt": lambda t: 0.05 + ((1 + t / 10) ** -0.5 - 0.05) * (1 - max(t - 80, 0) / 20),
    "constant": lambda t: 1.0,
}


def get_learning_rates(config, steps, order=None):
    """The learning rate at each step, asked for in some order."""
    optimizer = torch.optim.AdamW([torch.zeros(2, 2, requires_grad=True)])
    found = {}
    for step in order or range(1, steps + 1):
        set_learning_rate(optimizer, config, step, steps)
        found[step] = optimizer.param_groups[0]["lr"]
    return [found[step] for step in sorted(found)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_schedule_has_the_form_that_its_paper_gives_it_under_our_warm_up(schedule):
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=4, schedule=schedule)
    expected = [2 * min(1, (t + 1) / 4) * EXPECTED[schedule](t) for t in range(STEPS)]
    assert get_learning_rates(config, STEPS) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_step_depends_on_which_were_asked_for_before(schedule):
    config, order = OptimizerConfig(schedule=schedule), torch.randperm(STEPS) + 1
    assert get_learning_rates(config, STEPS, order.tolist()) == get_learning_rates(config, STEPS)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_runs_of_few_steps_have_a_learning_rate_too(schedule, steps):
    shares = [get_lr_factor(schedule, step, steps) for step in range(1, steps + 1)]
    assert all(0 < share <= 1 for share in shares)
    assert shares == sorted(shares, reverse=True)


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown schedule 'cosin'; known: linear, cosine, poly, .*sta"
    ):
        OptimizerConfig(schedule="cosin")


def test_a_schedule_that_waits_for_measurements_is_refused_with_why():
    with pytest.raises(
        ValueError, match=r"'plateau' depends on validation metrics, .* choose one of: "
    ):
        OptimizerConfig(schedule="plateau")


@pytest.mark.parametrize("failing", ["returns nothing", "does not know an option"])
def test_a_timm_that_is_too_old_for_a_schedule_is_named(failing, monkeypatch):
    factory = pytest.importorskip("timm.scheduler.scheduler_factory")

    def older(optimizer, sched, **options):
        if failing == "does not know an option":
            raise TypeError("got an unexpected keyword argument")
        return None, 0

    monkeypatch.setattr(factory, "create_scheduler_v2", older)
    with pytest.raises(ValueError, match="the installed timm has no schedule 'wsd'"):
        get_lr_factor("wsd", 1, 12345)


@pytest.mark.slow
def test_timm_is_imported_for_its_schedules_alone():
    code = "import sys; from vqvideo.training import OptimizerConfig as C; C(schedule='cosine'); "
    code += "from vqvideo.training.schedule import get_lr_factor as s; s('linear', 1, 2); "
    code += "assert 'timm' not in sys.modules; s('cosine', 1, 2); assert 'timm' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def train(small_changes, clips, out, *, resume=False, schedule="cosine"):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    sets = (
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    )
    optimizer = OptimizerConfig(learning_rate=3e-3, warmup_steps=2, schedule=schedule)
    config = TrainingConfig(
        steps=5, batch_size=2, eval_every=2, optimizer=optimizer, precision="fp32"
    )
    train_vqvae(generator, *sets, out, config, resume=resume)
    return generator


@pytest.mark.slow
def test_a_resumed_run_under_a_schedule_of_timm_ends_with_the_same_weights(
    small_changes, clips, tmp_path, monkeypatch
):
    whole = train(small_changes, clips, tmp_path / "whole")
    after_step, steps = VQVAETask.after_step, []

    def breaking(self):
        after_step(self)
        steps.append(1)
        if len(steps) == 4:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(VQVAETask, "after_step", breaking)
        with pytest.raises(RuntimeError, match="killed"):
            train(small_changes, clips, tmp_path / "out")
    again = train(small_changes, clips, tmp_path / "out", resume=True)
    pairs = zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    said = "started with schedule cosine, not linear; run the same command"
    with pytest.raises(ResumeError, match=said):
        train(small_changes, clips, tmp_path / "out", resume=True, schedule="linear")


@pytest.mark.slow
def test_a_run_from_before_schedules_resumes_under_the_one_there_was_and_no_other(
    small_changes, clips, tmp_path, monkeypatch
):
    identity = run_module.build_identity

    def before(*of):
        return {name: value for name, value in identity(*of).items() if name != "schedule"}

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "build_identity", before)
        train(small_changes, clips, tmp_path, schedule="linear")
    train(small_changes, clips, tmp_path, resume=True, schedule="linear")
    with pytest.raises(ResumeError, match="started with schedule linear, not cosine; run"):
        train(small_changes, clips, tmp_path, resume=True, schedule="cosine")


def test_the_command_hands_the_schedule_on_and_refuses_a_wrong_one_before_any_work(
    clips, tmp_path, capsys, monkeypatch
):
    seen = []
    monkeypatch.setattr(Trainer, "train_step", lambda self, step, data: seen.append(step))
    command = ["train-vqvae", "--model", "video", "--data", str(clips), "--steps", "1"]
    command += ["--set=encoder.widths=[4,4]", "--set=decoder.widths=[4,4]", "--batch-size", "1"]
    command += ["--out", str(tmp_path / "run"), "--precision", "fp32"]
    assert main([*command, "--schedule", "plateau"]) != 0
    assert "depends on validation metrics" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert seen == []
    monkeypatch.setattr(Trainer, "evaluate", lambda self, step: None)
    main([*command, "--schedule", "cosine"])
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert told["optimizer"]["schedule"] == "cosine"
