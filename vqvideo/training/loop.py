"""The training loop, shared by all tasks.

`train` runs a `Task`: it loads batches, steps the optimizer with a warm-up and a schedule, shows a
progress bar, evaluates on validation data at intervals, and writes a log, curves, previews, the
model and its training state into the run's folder. The task (task.py) defines the loss, the
metrics and the previews; trainer.py defines a step, and state.py the training state.
"""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vqvideo.atomic import write_text
from vqvideo.distributed import join_processes
from vqvideo.training.run_folder import TENSORBOARD_DIR, run_lock
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import STATE_NAME
from vqvideo.training.task import Task, TrainingConfig
from vqvideo.training.trainer import Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    task: Task, config: TrainingConfig, out: str | Path, *, resume: bool = False
) -> dict[str, float]:
    """Train and return the last validation metrics; the model is left in evaluation mode.

    Writes into `out`: `model/` (a checkpoint, replaced at each evaluation), `log.jsonl` (one
    line per evaluation), `curves.png`, previews, `tensorboard/`, `training.json` (the config), and
    `state.safetensors`, from which the run can be resumed.

    Args:
        task: model, data and loss.
        config: steps, batch size and so on.
        out: the run's folder.
        resume: resume from the state in `out`; on a CPU the weights match an uninterrupted run bit
            for bit. Starts from the beginning if there is no state yet.

    Raises:
        ResumeError: the state in `out` belongs to a different run.
        FileExistsError: `out` has no state, but files with the names of a run's.
        RuntimeError: another process is training into `out`.
        FloatingPointError: the run diverged.
        KeyboardInterrupt: a signal (SIGINT or SIGTERM) stopped the run; its state is saved.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = _build_accelerator(out)
    with run_lock(out) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        with closing(Trainer(task, config, out, accelerator)) as trainer:
            is_resuming = resume and (out / STATE_NAME).is_file()
            steps_done = trainer.restore() if is_resuming else trainer.start()
            if not is_resuming:
                trainer.save(0)  # the state first: it shows that the other files are of a run
            if accelerator.is_main_process:
                options = {**asdict(config), "precision": trainer.precision}
                write_text(out / "training.json", json.dumps(options, indent=2) + "\n")
                trainer.logger.start(steps_done)
            tensorboard_kwargs = {"purge_step": steps_done + 1} if steps_done else {}
            accelerator.init_trackers(
                TENSORBOARD_DIR, init_kwargs={"tensorboard": tensorboard_kwargs}
            )
            _run_steps(trainer, steps_done)
            trainer.model_ema.swap()  # the model is left with the evaluated weights
    task.model.eval()
    return trainer.metrics


def _build_accelerator(out: Path) -> Accelerator:
    """Build an accelerator that handles devices and processes only.

    Precision, compilation and gradient accumulation come from the config, so a launcher's settings
    for them are overridden.
    """
    from accelerate import Accelerator  # slow import (about 1 s), needed only for training
    from accelerate.utils import GradientAccumulationPlugin

    join_processes()
    return Accelerator(
        mixed_precision="no",
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with="tensorboard",
        project_dir=out,
    )


def _run_steps(trainer: Trainer, steps_done: int) -> None:
    """Run all steps after the first `steps_done`."""
    batches, config = trainer.iter_batches(steps_done), trainer.config
    with StopSignals() as signals:
        for step in range(steps_done + 1, config.steps + 1):
            trainer.train_step(step, batches)
            is_evaluated = step % config.eval_every == 0 or step == config.steps
            if is_evaluated:
                trainer.evaluate(step)
            if trainer.should_stop(signals) and step < config.steps:
                trainer.save(step)
                raise KeyboardInterrupt(f"stopped at step {step}; continue with resume=True")
            if is_evaluated:
                trainer.save(step)
