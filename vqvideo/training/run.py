"""A run: a task with its optimizer, data and log. accelerate does the devices."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vqvideo.data.clips import Sample
from vqvideo.quantizers import NotFiniteError
from vqvideo.training.average import WeightAverage
from vqvideo.training.batches import Batches
from vqvideo.training.compiling import compiled
from vqvideo.training.curves import write_curves
from vqvideo.training.folder import forget
from vqvideo.training.log import Log
from vqvideo.training.optimizer import optimizer_of, set_learning_rate
from vqvideo.training.precision import dtype_of, loss_scaler
from vqvideo.training.same import check_same, identity
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import (
    FILE,
    load_state,
    random_state,
    read_header,
    save_state,
    set_random_state,
)
from vqvideo.training.task import Task, TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

SEEDS_APART = 1_000_003
SMALLEST_SCALE = 1.0  # of the loss in float16: gradients that overflow even so are no small ones


class Run:
    """A task with all that its training needs."""

    def __init__(
        self, task: Task, config: TrainingConfig, out: Path, accelerator: Accelerator
    ) -> None:
        self.task, self.config, self.out, self.accelerator = task, config, out, accelerator
        device, dtype = accelerator.device.type, dtype_of(config.precision)
        self.precision = str(dtype).removeprefix("torch.")
        self.autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
        self.scaler = loss_scaler(device, dtype)
        self.optimizer = optimizer_of(task.model, config.optimizer)
        self._open = ExitStack()
        wrapped = compiled(task.model) if config.compile else nullcontext(task.model)
        self.model = accelerator.prepare(self._open.enter_context(wrapped))
        self.average = WeightAverage(task.model, config.optimizer.weight_average)
        self.data = Batches(task.data, config, accelerator.num_processes)
        self.log = Log(out / "log.jsonl", config.steps, accelerator.is_main_process)
        self._open.callback(self.log.close)
        self._open.callback(accelerator.end_training)
        self.figures: dict[str, float] = {}
        self.saved = False

    def close(self) -> None:
        """The model is again what it was, and the progress bar ends."""
        self._open.close()

    def batches(self, steps_done: int) -> Iterator[list[Sample]]:
        """Those of this process, step by step."""
        loader = iter(self.accelerator.prepare(self.data.loader(steps_done)))
        while True:
            yield list(itertools.islice(loader, self.config.accumulate))

    def step(self, step: int, data: Iterator[list[Sample]]) -> None:
        """One step of the optimizer, on the next of the data."""
        start = time.perf_counter()
        batches = next(data)
        self.model.train()
        self.task.before_step(batches)
        total, figures = 0.0, dict[str, float]()
        for batch in batches:
            is_last = batch is batches[-1]
            alone = nullcontext() if is_last else self.accelerator.no_sync(self.model)
            with alone:
                loss, figures = self._loss(step, batch)
                self.accelerator.backward(self.scaler.scale(loss / len(batches)))
            total += loss.item() / len(batches)
        self._move(step)
        self.task.after_step()
        self.average.update()
        self.log.seen(total, figures, time.perf_counter() - start)
        if step % max(1, self.config.eval_every // 20) == 0:
            self.accelerator.log({"loss": total, **figures}, step)

    def _loss(self, step: int, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        wrong: str | None = None
        try:
            with self.autocast:
                loss, figures = self.task.loss(self.model, batch)
            if not math.isfinite(loss.item()):
                wrong = f"the loss is {loss.item()}"
        except NotFiniteError as cause:
            wrong = f"a value is not finite ({cause})"
        if self._somewhere(wrong is not None):  # all stop, or the others would wait for ever
            raise self._diverged(wrong or "a value is not finite in another process", step)
        return loss, figures

    def _move(self, step: int) -> None:
        """Move the weights along the gradients, which are cut to length 1, and forget those."""
        self.scaler.unscale_(self.optimizer)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        too_large = self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        if not math.isfinite(norm) and not too_large:
            raise self._diverged(f"the gradient's norm is {norm.item()}", step)
        set_learning_rate(self.optimizer, self.config.optimizer, step, self.config.steps)
        self.scaler.step(self.optimizer)  # which in float16 leaves out a step that overflowed
        self.scaler.update()
        self.optimizer.zero_grad()

    def measure(self, step: int) -> None:
        """Held-out figures into the log, pictures and the model into the folder."""
        with self.average.in_place():
            try:
                self.figures = self.task.evaluate()
            except NotFiniteError as cause:
                raise self._diverged(f"a held-out value is not finite ({cause})", step) from cause
            for name, value in self.figures.items():
                if math.isnan(value):
                    raise self._diverged(f"the held-out {name} is NaN", step)
            if self.accelerator.is_main_process:
                self.task.save(self.out / "model")  # before anything says how good it is
                self.saved = True
                self.log.measured(step, self.figures)
                self.log.warn(self.task.warnings(self.figures, self.data.passes(step)))
                self._show(step)

    def _show(self, step: int) -> None:
        write_curves(self.out / "log.jsonl", self.out / "curves.png")
        self.accelerator.log({f"held_out/{name}": x for name, x in self.figures.items()}, step)
        for name, picture in self.task.show(self.out).items():
            for tracker in self.accelerator.trackers:
                tracker.log_images({name: picture.numpy()}, step, dataformats="HWC")

    def save(self, step: int) -> None:
        """All that the run needs to go on."""
        from accelerate.utils import gather_object

        randomness = gather_object([random_state()])
        if self.accelerator.is_main_process:
            said = {
                "step": step,
                "run": self._identity(),
                "scaler": self.scaler.state_dict(),
                "log": self.log.state_dict(),
                "figures": self.figures,
                "saved": self.saved,
            }
            average = self.average.state()
            path = self.out / FILE
            save_state(path, self.task.model, self.optimizer, average, randomness, said)

    def begin(self) -> int:
        """From the beginning: what an earlier run left in the folder is no part of this one.

        Returns the number of steps that are done, as `restore` does.
        """
        if self.accelerator.is_main_process:
            forget(self.out)
            self.log.warn(self._warnings())
        if self.accelerator.process_index:  # or all would draw the same dropout for ever
            torch.manual_seed(self.config.seed + self.accelerator.process_index * SEEDS_APART)
        return 0

    def restore(self) -> int:
        """Go on from what `save` wrote; returns the number of steps that are done."""
        path = self.out / FILE
        check_same(self.out, read_header(path)["run"], self._identity())
        said, average, randomness = load_state(path, self.task.model, self.optimizer)
        step = int(said["step"])
        self.scaler.load_state_dict(said["scaler"])
        self.average.load(average, step)
        self.figures, self.saved = said["figures"], said["saved"]
        self.log.load_state_dict(said["log"])
        set_random_state(randomness[self.accelerator.process_index])
        return step

    def is_to_stop(self, signals: StopSignals) -> bool:
        """Whether a process was told to: then all stop, at the same step."""
        return self._somewhere(signals.came)

    def _somewhere(self, happened: bool) -> bool:
        """Whether it happened in any process."""
        if self.accelerator.num_processes == 1:
            return happened
        number = torch.tensor(int(happened), device=self.accelerator.device)
        return bool(self.accelerator.reduce(number, reduction="sum").item())

    def _warnings(self) -> dict[str, str]:
        size, asked = self.data.size, self.config.batch_size
        if size == asked:
            return {}
        sentence = (
            f"{len(self.data)} items fill no batch of {asked}, so batches are of {size}; give more "
            f"data or a smaller clip step"
        )
        return {"small data": sentence}

    def _identity(self) -> dict[str, Any]:
        return identity(
            self.config,
            self.task.identity,
            self.precision,
            len(self.data),
            self.accelerator.num_processes,
        )

    def _diverged(self, what: str, step: int) -> FloatingPointError:
        """The error of a run that cannot go on; weights that are not finite are never saved."""
        last = f"the last good model is in {self.out / 'model'}; " if self.saved else ""
        names = self.data.names(step)
        seen = f". It was on {names}" if names else ""
        return FloatingPointError(
            f"{what} at step {step}; {last}a lower learning_rate usually helps{seen}"
        )
