"""The training loop, once, for whatever can say its loss.

`train` runs a `Task`: it draws batches, steps the optimizer under a warm-up and a schedule,
shows a progress bar, measures on held-out data now and then, and leaves a log, curves, pictures,
the model and its own state in the run's folder. What is learnt and what is shown is the task's
business (task.py), how a step is done and what a state is that of run.py and state.py.
"""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vqvideo.training.folder import TRACKED, alone
from vqvideo.training.log import write_whole
from vqvideo.training.run import Run
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import FILE
from vqvideo.training.task import Task, TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    task: Task, config: TrainingConfig, out: str | Path, *, resume: bool = False
) -> dict[str, float]:
    """Train and return the last held-out figures; the model is left in evaluation mode.

    Writes into `out`: `model/` (a checkpoint, replaced at each measurement), `log.jsonl` (one
    line per measurement), `curves.png`, pictures, `tensorboard/`, `training.json` (the config), and
    `state.safetensors`, from which the run goes on.

    Args:
        task: what is learnt.
        config: steps, batch size and so on.
        out: the run's folder.
        resume: go on from the state in `out`, on a CPU to the same weights bit for bit as without
            a stop; from the beginning where there is none yet.

    Raises:
        ResumeError: the state in `out` is that of another run.
        RuntimeError: another process is training into `out`.
        FloatingPointError: the run diverged.
        KeyboardInterrupt: it was told to stop (SIGINT or SIGTERM), and has saved its state.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(out)
    with alone(out) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        with closing(Run(task, config, out, accelerator)) as run:
            goes_on = resume and (out / FILE).is_file()
            first = run.restore() if goes_on else run.begin()
            if accelerator.is_main_process:
                told = {**asdict(config), "precision": run.precision}
                write_whole(out / "training.json", json.dumps(told, indent=2) + "\n")
                run.log.begin(first)
            if not goes_on:
                run.save(0)  # from now on there is always a state: a model without one is no run
            purged = {"purge_step": first + 1} if first else {}
            accelerator.init_trackers(TRACKED, init_kwargs={"tensorboard": purged})
            _steps(run, first)
            run.average.swap()  # the model is what was measured
    task.model.eval()
    return run.figures


def _accelerator(out: Path) -> Accelerator:
    """For devices and processes alone: a launcher's settings for anything else would come on top of
    what a run is told.
    """
    from accelerate import Accelerator  # imports for a second; only training needs it
    from accelerate.utils import GradientAccumulationPlugin

    return Accelerator(
        mixed_precision="no",
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with="tensorboard",
        project_dir=out,
    )


def _steps(run: Run, first: int) -> None:
    """All steps after the first so many."""
    batches, config = run.batches(first), run.config
    with StopSignals() as signals:
        for step in range(first + 1, config.steps + 1):
            run.step(step, batches)
            is_measured = step % config.eval_every == 0 or step == config.steps
            if is_measured:
                run.measure(step)
            if run.is_to_stop(signals) and step < config.steps:
                run.save(step)
                raise KeyboardInterrupt(f"stopped at step {step}; --resume goes on from there")
            if is_measured:
                run.save(step)
