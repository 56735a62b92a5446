"""Trainer of a task: training steps, evaluation, saving and resuming, on accelerate."""

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

from vqvideo.arguments import offset_seed
from vqvideo.data.clips import Sample
from vqvideo.quantizers import NotFiniteError
from vqvideo.training.compilation import compile_networks
from vqvideo.training.curves import write_curves
from vqvideo.training.log import TrainingLogger
from vqvideo.training.model_ema import ModelEMA
from vqvideo.training.optimizer import build_optimizer, set_learning_rate
from vqvideo.training.precision import build_grad_scaler, resolve_dtype
from vqvideo.training.resume_check import build_identity, check_resumable
from vqvideo.training.run_folder import check_owned, clear_run
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import (
    STATE_NAME,
    get_rng_state,
    load_state,
    read_header,
    save_state,
    set_rng_state,
    wrap_damage,
)
from vqvideo.training.task import Task, TrainingConfig
from vqvideo.training.training_data import TrainingData

if TYPE_CHECKING:
    from accelerate import Accelerator

PROCESS_SEED_OFFSET = 1_000_003
MIN_LOSS_SCALE = 1.0  # float16: gradients that overflow at this loss scale are truly too large


class Trainer:
    """A task with its optimizer, data, precision, EMA and logger."""

    def __init__(
        self, task: Task, config: TrainingConfig, out: Path, accelerator: Accelerator
    ) -> None:
        self.task, self.config, self.out, self.accelerator = task, config, out, accelerator
        device, dtype = accelerator.device.type, resolve_dtype(config.precision)
        self.precision = str(dtype).removeprefix("torch.")
        self.autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
        self.scaler = build_grad_scaler(device, dtype)
        self.optimizer = build_optimizer(task.model, config.optimizer)
        self._exit_stack = ExitStack()
        wrapped = compile_networks(task.model) if config.compile else nullcontext(task.model)
        self.model = accelerator.prepare(self._exit_stack.enter_context(wrapped))
        self.model_ema = ModelEMA(task.model, config.optimizer.model_ema_decay)
        self.data = TrainingData(task.data, config, accelerator.num_processes)
        self.logger = TrainingLogger(out / "log.jsonl", config.steps, accelerator.is_main_process)
        self._exit_stack.callback(self.logger.close)
        self._exit_stack.callback(accelerator.end_training)
        self.metrics: dict[str, float] = {}
        self.has_saved_model = False

    def close(self) -> None:
        """Undo the compilation of the model, and close trackers and the progress bar."""
        self._exit_stack.close()

    def iter_batches(self, steps_done: int) -> Iterator[list[Sample]]:
        """Yield the batches of this process, one list per optimizer step."""
        loader = iter(self.accelerator.prepare(self.data.build_loader(steps_done)))
        while True:
            yield list(itertools.islice(loader, self.config.gradient_accumulation_steps))

    def train_step(self, step: int, data: Iterator[list[Sample]]) -> None:
        """Run one optimizer step on the next batches."""
        start = time.perf_counter()
        batches = next(data)
        self.model.train()
        self.task.before_step(batches)
        total, metrics = 0.0, dict[str, float]()
        for batch in batches:
            is_last = batch is batches[-1]
            sync_context = nullcontext() if is_last else self.accelerator.no_sync(self.model)
            with sync_context:
                loss, metrics = self._compute_loss(step, batch)
                self.accelerator.backward(self.scaler.scale(loss / len(batches)))
            total += loss.item() / len(batches)
        self._update_weights(step)
        self.task.after_step()
        self.model_ema.update()
        self.logger.log_step(total, metrics, time.perf_counter() - start)
        if step % max(1, self.config.eval_every // 20) == 0:
            self.accelerator.log({"loss": total, **metrics}, step)

    def _compute_loss(self, step: int, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        reason: str | None = None
        try:
            with self.autocast:
                loss, metrics = self.task.compute_loss(self.model, batch)
            if not math.isfinite(loss.item()):
                reason = f"the loss is {loss.item()}"
        except NotFiniteError as cause:
            reason = f"a value is not finite ({cause})"
        if self._any_process(reason is not None):  # all stop, or the others would wait forever
            raise self._build_divergence_error(
                reason or "a value is not finite in another process", step
            )
        return loss, metrics

    def _update_weights(self, step: int) -> None:
        """Clip the gradient to norm 1, step the optimizer and reset the gradients."""
        self.scaler.unscale_(self.optimizer)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        too_large = self.scaler.is_enabled() and self.scaler.get_scale() > MIN_LOSS_SCALE
        if not math.isfinite(norm) and not too_large:
            raise self._build_divergence_error(f"the gradient norm is {norm.item()}", step)
        set_learning_rate(self.optimizer, self.config.optimizer, step, self.config.steps)
        self.scaler.step(self.optimizer)  # in float16 this skips a step with overflow
        self.scaler.update()
        self.optimizer.zero_grad()

    def evaluate(self, step: int) -> None:
        """Evaluate, then write the log, the previews and the model."""
        with self.model_ema.average_parameters():
            try:
                self.metrics = self.task.evaluate()
            except NotFiniteError as cause:
                raise self._build_divergence_error(
                    f"a validation value is not finite ({cause})", step
                ) from cause
            for name, value in self.metrics.items():
                if math.isnan(value):
                    raise self._build_divergence_error(f"the validation {name} is NaN", step)
            if self.accelerator.is_main_process:
                # The model first, so that no logged metric lacks its model.
                self.task.save(self.out / "model")
                self.has_saved_model = True
                self.logger.log_metrics(step, self.metrics)
                self.logger.warn(
                    self.task.collect_warnings(self.metrics, self.data.count_epochs(step))
                )
                self._log_evaluation(step)

    def _log_evaluation(self, step: int) -> None:
        write_curves(self.out / "log.jsonl", self.out / "curves.png")
        self.accelerator.log({f"val/{name}": x for name, x in self.metrics.items()}, step)
        for name, image in self.task.write_previews(self.out).items():
            for tracker in self.accelerator.trackers:
                tracker.log_images({name: image.numpy()}, step, dataformats="HWC")

    def save(self, step: int) -> None:
        """Save the state from which the run can be resumed."""
        from accelerate.utils import gather_object

        rng_states = gather_object([get_rng_state()])
        if self.accelerator.is_main_process:
            run_state = {
                "step": step,
                "run": self._build_identity(),
                "scaler": self.scaler.state_dict(),
                "logger": self.logger.state_dict(),
                "metrics": self.metrics,
                "has_saved_model": self.has_saved_model,
            }
            model_ema = self.model_ema.state_dict()
            path = self.out / STATE_NAME
            save_state(path, self.task.model, self.optimizer, model_ema, rng_states, run_state)

    def start(self) -> int:
        """Start from the beginning and remove the files of an earlier run.

        Returns:
            The number of steps done, 0, like `restore`.

        Raises:
            FileExistsError: a file of the folder would be replaced that no run wrote.
        """
        if self.accelerator.is_main_process:
            check_owned(self.out)
            clear_run(self.out)
            self.logger.warn(self._collect_warnings())
        if self.accelerator.process_index:  # otherwise all processes share their dropout masks
            torch.manual_seed(
                offset_seed(self.config.seed, self.accelerator.process_index * PROCESS_SEED_OFFSET)
            )
        return 0

    def restore(self) -> int:
        """Restore the state that `save` wrote and return the number of steps done."""
        path = self.out / STATE_NAME
        with wrap_damage(path):
            check_resumable(self.out, read_header(path)["run"], self._build_identity())
            run_state, model_ema, rng_states = load_state(path, self.task.model, self.optimizer)
            step = int(run_state["step"])
            self.scaler.load_state_dict(run_state["scaler"])
            self.model_ema.load_state_dict(model_ema, step)
            self.metrics, self.has_saved_model = run_state["metrics"], run_state["has_saved_model"]
            self.logger.load_state_dict(run_state["logger"])
            set_rng_state(rng_states[self.accelerator.process_index])
        return step

    def should_stop(self, signals: StopSignals) -> bool:
        """Return whether any process received a stop signal, so that all stop at the same step."""
        return self._any_process(signals.is_received)

    def _any_process(self, condition: bool) -> bool:
        """Return whether the condition holds in any process."""
        if self.accelerator.num_processes == 1:
            return condition
        count = torch.tensor(int(condition), device=self.accelerator.device)
        return bool(self.accelerator.reduce(count, reduction="sum").item())

    def _collect_warnings(self) -> dict[str, str]:
        batch_size, requested = self.data.batch_size, self.config.batch_size
        if batch_size == requested:
            return {}
        message = (
            f"{len(self.data)} items do not fill a batch of {requested}, so the batch size is "
            f"{batch_size}; provide more data or a smaller clip stride"
        )
        return {"small data": message}

    def _build_identity(self) -> dict[str, Any]:
        return build_identity(
            self.config,
            self.task.identity,
            self.precision,
            len(self.data),
            self.accelerator.num_processes,
        )

    def _build_divergence_error(self, reason: str, step: int) -> FloatingPointError:
        """Build the error of a diverged run; weights that are not finite are never saved."""
        checkpoint = (
            f"the last good model is in {self.out / 'model'}; " if self.has_saved_model else ""
        )
        names = self.data.describe_items(step)
        items = f". The step trained on {names}" if names else ""
        return FloatingPointError(
            f"{reason} at step {step}; {checkpoint}a lower learning_rate usually helps{items}"
        )
