"""A run that was stopped, killed or cut off goes on to the same weights, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import vqvideo
from vqvideo.cli import main
from vqvideo.commands.train_vqvae import check_run_folder
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_prior, train_vqvae
from vqvideo.training import state as state_module
from vqvideo.training.state import STATE_NAME, ResumeError, read_header
from vqvideo.training.trainer import Trainer
from vqvideo.training.vqvae import VQVAETask

pytestmark = pytest.mark.slow

STEPS = 7
CONFIG = TrainingConfig(
    steps=STEPS,
    batch_size=2,
    eval_every=3,
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2, model_ema_decay=0.9),
    precision="fp32",
)
RUN = """
import os, signal, sys, json
from vqvideo.cli import main
from vqvideo.training import prior, state, vqvae

step, when = int(sys.argv[1]), sys.argv[2]
taken = 0

def after_step(task, own):
    global taken
    own(task)
    taken += 1
    if when == "step" and taken == step:
        os.kill(os.getpid(), signal.SIGKILL)

for task in (vqvae.VQVAETask, prior.PriorTask):
    task.after_step = lambda self, own=task.after_step: after_step(self, own)
save = state.save_file

def half(tensors, path, metadata):
    save(tensors, path, metadata)
    if when == "write" and taken >= step:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

state.save_file = half
raise SystemExit(main(json.loads(sys.argv[3])))
"""


def run(arguments, step=0, when="never"):
    """A command in a process of its own, killed at a step or while it writes its state."""
    command = [sys.executable, "-c", RUN, str(step), when, json.dumps(arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def train_first_stage(small_changes, clips, out, *, resume=False, task=None, **changes):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    sets = (
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    )
    config = TrainingConfig(**{**CONFIG.__dict__, **changes})
    return generator, train_vqvae(generator, *sets, out, config, resume=resume)


def train_second_stage(small_changes, out, *, resume=False):
    """A prior that draws random numbers in training: dropout, and items that are told nothing."""
    torch.manual_seed(0)
    cond = {"num_classes": 2, "dropout": 0.5}
    prior = {"name": "masked3d", "width": 8, "num_layers": 2, "dropout": 0.3, "cond": cond}
    generator = vqvideo.build("video", **{**small_changes, "prior": prior})
    draw = torch.Generator().manual_seed(1)
    data = [
        {"codes": torch.randint(32, (2, 4, 5), generator=draw), "class_id": torch.tensor(n % 2)}
        for n in range(9)
    ]
    generator.sample_shape = (8, 16, 20)
    return generator, train_prior(generator, data, data, out, CONFIG, resume=resume)


def require_same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 4, 7])
@pytest.mark.parametrize("stage", ["vqvae", "prior"])
def test_a_run_interrupted_at_any_step_ends_with_the_same_weights(
    stage, at, small_changes, clips, tmp_path, monkeypatch
):
    def train(out, resume=False):
        if stage == "vqvae":
            return train_first_stage(small_changes, clips, out, resume=resume)
        return train_second_stage(small_changes, out, resume=resume)

    whole, figures = train(tmp_path / "whole")
    steps = []
    step = torch.optim.AdamW.step

    def stopping(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == at:
            raise StopHereError
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stopping)
    with pytest.raises(StopHereError):
        train(tmp_path / "out")
    again, figures_again = train(tmp_path / "out", resume=True)
    assert len(steps) == at + STEPS - (at - 1) // 3 * 3, "only what was not saved is done again"
    assert require_same(whole.state_dict(), again.state_dict())
    assert figures == figures_again
    lines = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "out")]
    one, other = (
        [{**json.loads(x), "seconds": 0, "step_seconds": 0} for x in each] for each in lines
    )
    assert one == other
    files = [load_file(tmp_path / name / STATE_NAME) for name in ("whole", "out")]
    assert require_same(*files), "and so do optimizer and random state"


def test_real_processes_killed_at_any_moment_lose_nothing(clips, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    small = ["encoder.widths=[4,4]", "decoder.widths=[4,4]", "quantizer.codebook_size=16"]
    small += ["encoder.num_blocks=[1,1]", "decoder.num_blocks=[1,1]", "quantizer.warmup_steps=2"]
    train = ["train-vqvae", "--model", "video", "--data", str(clips), "--batch-size", "2"]
    train += ["--steps", "9", "--eval-every", "2", "--precision", "fp32", "--clip-stride", "4"]
    train += [f"--set={change}" for change in small]
    assert run([*train, "--out", str(tmp_path / "whole")]).returncode == 0
    saves, state = (2, 4, 6, 8, 9), 0  # steps; the last one whose state is whole
    for when in ("step", "write", "step"):
        step = draw.randint(1, 9 - state)  # of this process
        killed_at = min(n for n in saves if n >= state + step) if when == "write" else state + step
        state = max([n for n in saves if n < killed_at], default=0)
        done = run([*train, "--out", str(tmp_path / "out"), "--resume"], step, when)
        assert done.returncode == -signal.SIGKILL, (seed, step, when, done.stderr)
    done = run([*train, "--out", str(tmp_path / "out"), "--resume"])
    assert done.returncode == 0, (seed, done.stderr)
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "out"))
    assert one.read_bytes() == other.read_bytes(), seed
    one, other = ({path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "out"))
    assert one == other


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_its_step_and_says_how_to_resume(
    number, small_changes, clips, tmp_path, monkeypatch
):
    whole, _ = train_first_stage(small_changes, clips, tmp_path / "whole")
    after_step, steps = VQVAETask.after_step, []

    def told(self):
        after_step(self)
        steps.append(1)
        if len(steps) == 5:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(VQVAETask, "after_step", told)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 5; continue with resume=True"):
        train_first_stage(small_changes, clips, tmp_path / "out")
    assert signal.getsignal(number) == before
    again, _ = train_first_stage(small_changes, clips, tmp_path / "out", resume=True)
    assert len(steps) == STEPS
    assert require_same(whole.state_dict(), again.state_dict())


def test_a_finished_run_has_nothing_left_to_do(small_changes, clips, tmp_path):
    whole, figures = train_first_stage(small_changes, clips, tmp_path)
    again, figures_again = train_first_stage(small_changes, clips, tmp_path, resume=True)
    assert figures == figures_again
    assert require_same(whole.state_dict(), again.state_dict())


def test_an_overwritten_run_discards_the_state_of_the_one_before(
    small_changes, clips, tmp_path, monkeypatch
):
    train_first_stage(small_changes, clips, tmp_path)

    def break_off(self):
        raise StopHereError

    monkeypatch.setattr(VQVAETask, "after_step", break_off)
    with pytest.raises(StopHereError):
        train_first_stage(small_changes, clips, tmp_path)
    assert read_header(tmp_path / STATE_NAME)["step"] == 0


def test_a_run_is_not_resumed_as_another(small_changes, clips, tmp_path):
    train_first_stage(small_changes, clips, tmp_path)
    for name, value in (("batch_size", 3), ("steps", 9), ("seed", 1)):
        with pytest.raises(ResumeError, match=f"was started with {name} .*, not {value}; run the"):
            train_first_stage(small_changes, clips, tmp_path, resume=True, **{name: value})
    slower = OptimizerConfig(learning_rate=1e-4, warmup_steps=2, model_ema_decay=0.9)
    said = "started with steps 7, not 9, and learning_rate 0.003, not 0.0001; run the same command"
    with pytest.raises(ResumeError, match=said):
        train_first_stage(small_changes, clips, tmp_path, resume=True, steps=9, optimizer=slower)
    wider = {**small_changes, "encoder": {"widths": (12, 12), "num_blocks": (1, 1)}}
    said = r"started with encoder.widths \[8, 12\], not \[12, 12\]; run the same command"
    with pytest.raises(ResumeError, match=said):
        train_first_stage(wider, clips, tmp_path, resume=True)
    (tmp_path / STATE_NAME).write_bytes((tmp_path / STATE_NAME).read_bytes()[:1000])
    with pytest.raises(ResumeError, match="is not a training state, or it is damaged"):
        train_first_stage(small_changes, clips, tmp_path, resume=True)


def test_a_full_disk_leaves_the_last_state_whole(small_changes, clips, tmp_path, monkeypatch):
    save, saved = state_module.save_file, []

    def full(tensors, path, metadata):
        saved.append(path)
        if len(saved) == 3:  # the first stands for the beginning, the second for step 3
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path, metadata)

    whole, _ = train_first_stage(small_changes, clips, tmp_path / "whole", eval_every=7)
    monkeypatch.setattr(state_module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        train_first_stage(small_changes, clips, tmp_path / "out")
    monkeypatch.undo()
    assert read_header(tmp_path / "out" / STATE_NAME)["step"] == 3
    assert not list((tmp_path / "out").glob(".*tmp*"))
    again, _ = train_first_stage(small_changes, clips, tmp_path / "out", resume=True)
    assert require_same(whole.state_dict(), again.state_dict())


def test_resuming_a_run_that_does_not_exist_starts_it(clips, tmp_path, capsys):
    arguments = ["train-vqvae", "--model", "video", "--data", str(clips), "--steps", "1"]
    arguments += ["--set=encoder.widths=[4,4]", "--set=decoder.widths=[4,4]", "--batch-size", "1"]
    arguments += ["--set=encoder.num_blocks=[1,1]", "--set=decoder.num_blocks=[1,1]"]
    out = ["--out", str(tmp_path / "run"), "--resume", "--precision", "fp32"]
    assert main([*arguments, *out]) == 0
    assert main([*arguments, *out]) == 0
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 1
    assert "already has a run" in capsys.readouterr().err


def test_what_decides_about_the_model_must_be_the_same_too(small_changes, clips, tmp_path):
    train_first_stage(small_changes, clips, tmp_path)
    quantizer = {**small_changes["quantizer"], "ema_decay": 0.5}
    other = {**small_changes, "quantizer": quantizer, "commitment_weight": 7.0}
    said = (
        "started with commitment_weight 0.25, not 7.0, and quantizer.ema_decay 0.97, not 0.5; run"
    )
    reordered = (
        "started with quantizer.ema_decay 0.97, not 0.5, and commitment_weight 0.25, not 7.0;"
    )
    with pytest.raises(ResumeError, match=f"{said}|{reordered}"):
        train_first_stage(other, clips, tmp_path, resume=True)
    train_first_stage(small_changes, clips, tmp_path, resume=True, num_workers=0)


def test_a_resume_that_is_refused_leaves_the_folder_as_it_was(small_changes, clips, tmp_path):
    train_first_stage(small_changes, clips, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(ResumeError):
        train_first_stage(small_changes, clips, tmp_path, resume=True, steps=9)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_state_without_a_model_is_no_free_folder_and_a_model_without_a_state_no_run(tmp_path):
    out = str(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE_NAME).write_bytes(b"saved by Ctrl-C before the first measurement")
    with pytest.raises(FileExistsError, match="already has a run; --resume continues it"):
        check_run_folder(out, overwrite=False, resume=False)
    check_run_folder(out, overwrite=False, resume=True)
    (tmp_path / "run" / STATE_NAME).unlink()
    (tmp_path / "run" / "model").mkdir()
    with pytest.raises(FileExistsError, match="has a model but no training state to resume from"):
        check_run_folder(out, overwrite=False, resume=True)
    with pytest.raises(ValueError, match="give only one of them"):
        check_run_folder(out, overwrite=True, resume=True)


def test_an_overwritten_run_keeps_nothing_of_the_one_before(
    small_changes, clips, tmp_path, monkeypatch
):
    train_first_stage(small_changes, clips, tmp_path)
    (tmp_path / "samples.png").write_bytes(b"of a prior that was here")
    (tmp_path / "codes").mkdir()

    def break_off(self):
        raise StopHereError

    monkeypatch.setattr(VQVAETask, "after_step", break_off)
    with pytest.raises(StopHereError):
        train_first_stage(small_changes, clips, tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".lock", "codes", "log.jsonl", STATE_NAME, "tensorboard", "training.json"}
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_folder_called_model_that_is_none_is_never_removed(small_changes, clips, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"diary.txt.*no part of a checkpoint"):
        train_first_stage(small_changes, clips, tmp_path)
    assert (tmp_path / "model" / "diary.txt").read_text() == "mine"


def test_a_run_killed_between_its_first_model_and_its_state_resumes(
    small_changes, clips, tmp_path, monkeypatch
):
    whole, _ = train_first_stage(small_changes, clips, tmp_path / "whole")

    def killed(self, step):
        if step:
            raise StopHereError
        save(self, step)

    save = Trainer.save
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", killed)
        with pytest.raises(StopHereError):
            train_first_stage(small_changes, clips, tmp_path / "out")
    assert (tmp_path / "out" / "model").is_dir()
    check_run_folder(str(tmp_path / "out"), overwrite=False, resume=True)
    again, _ = train_first_stage(small_changes, clips, tmp_path / "out", resume=True)
    assert require_same(whole.state_dict(), again.state_dict())
