"""The training loop, once, for whatever can say its loss.

`train` runs a `Task`: it draws batches, steps AdamW under a warm-up and a linear decay, shows a
progress bar, measures on held-out data now and then, and leaves a log, curves, pictures, the model
and its own state in the run's folder. What is learnt and what is shown is the task's business
(task.py), how a step is done and what a state is that of run.py and state.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from vqvideo.training.run import Run
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import FILE
from vqvideo.training.task import Task, TrainingConfig

LOCK = ".lock"  # in the folder of a run; free again when its process ends, however it does
TRACKED = "tensorboard"  # likewise, a folder


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
    from accelerate import Accelerator  # imports for a second; only training needs it

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(log_with="tensorboard", project_dir=out)
    with _alone(out, accelerator.is_main_process):
        _clear(out)
        run = Run(task, config, out, accelerator)
        if not resume:
            run.forget()
        (out / "training.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        first = run.restore() if resume and (out / FILE).is_file() else 0
        purged = {"purge_step": first + 1} if first else {}
        accelerator.init_trackers(TRACKED, init_kwargs={"tensorboard": purged})
        try:
            _steps(run, first)
        finally:
            accelerator.end_training()
            run.close()
    run.average.swap()  # the model is what was measured
    task.model.eval()
    return run.figures


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


def _clear(out: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for left in out.glob(".*.tmp"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


@contextmanager
def _alone(out: Path, is_main: bool) -> Iterator[None]:
    """Keep other runs out of a folder."""
    if not is_main:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as cause:
        raise RuntimeError(
            f"another process is training into {out}; wait for it, or give another --out"
        ) from cause
    try:
        yield
    finally:
        lock.release()
