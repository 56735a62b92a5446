"""The training loop, once, for whatever can say its loss.

`train` runs a `Task`: it draws batches, steps AdamW under a warm-up and a linear decay, shows a
progress bar, measures on held-out data now and then, and leaves a log, curves, pictures, the model
and its own state in the run's folder. What is learnt and what is shown is the task's business
(task.py), how a step is done and what a state is that of run.py and state.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vqvideo.training.run import Run
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import FILE
from vqvideo.training.task import Task, TrainingConfig


def train(
    task: Task, config: TrainingConfig, out: str | Path, *, resume: bool = False
) -> dict[str, float]:
    """Train and return the last held-out figures; the model is left in evaluation mode.

    Writes into `out`: `model/` (a checkpoint, replaced at each measurement), `log.jsonl` (one
    line per measurement), `curves.png`, pictures, `training.json` (the config), and
    `state.safetensors`, from which the run goes on.

    Args:
        task: what is learnt.
        config: steps, batch size and so on.
        out: the run's folder.
        resume: go on from the state in `out`, on a CPU to the same weights bit for bit as without
            a stop; from the beginning where there is none yet.

    Raises:
        ResumeError: the state in `out` is that of another run.
        FloatingPointError: the run diverged.
        KeyboardInterrupt: it was told to stop (SIGINT or SIGTERM), and has saved its state.
    """
    from accelerate import Accelerator  # imports for a second; only training needs it

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(task, config, out, Accelerator())
    if not resume:
        run.forget()
    (out / "training.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    first = run.restore() if resume and (out / FILE).is_file() else 0
    batches = run.batches(first)
    with StopSignals() as signals:
        for step in range(first + 1, config.steps + 1):
            run.step(step, next(batches))
            is_measured = step % config.eval_every == 0 or step == config.steps
            if is_measured:
                run.measure(step)
            if run.is_to_stop(signals) and step < config.steps:
                run.save(step)
                raise KeyboardInterrupt(f"stopped at step {step}; --resume goes on from there")
            if is_measured:
                run.save(step)
    run.log.close()
    task.model.eval()
    return run.figures
