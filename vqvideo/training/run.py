"""A run: a task with its optimizer, schedule, data and log. accelerate does the devices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vqvideo.data.clips import Sample
from vqvideo.data.order import BatchOrder
from vqvideo.quantizers import NotFiniteError, Quantizer
from vqvideo.training.curves import write_curves
from vqvideo.training.log import Log
from vqvideo.training.signals import StopSignals
from vqvideo.training.state import (
    FILE,
    ResumeError,
    load_state,
    random_state,
    read_state,
    save_state,
    set_random_state,
)
from vqvideo.training.task import Precision, Task, TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

NAMED = 8  # items of a batch that an error names


class Run:
    """A task with all that its training needs."""

    def __init__(
        self, task: Task, config: TrainingConfig, out: Path, accelerator: Accelerator
    ) -> None:
        self.task, self.config, self.out, self.accelerator = task, config, out, accelerator
        device = accelerator.device.type
        self.bf16 = torch.autocast(device, torch.bfloat16, enabled=_works_in_bf16(config.precision))
        adamw = torch.optim.AdamW(
            _groups(task.model), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: _rate(step, config))
        self.model, self.optimizer = accelerator.prepare(task.model, adamw)
        self.log = Log(out / "log.jsonl", config.steps, accelerator.is_main_process)
        self.figures: dict[str, float] = {}
        self.saved = False

    def batches(self, first: int) -> Iterator[list[Sample]]:
        """Those of each step after `first`."""
        parts = self.config.accumulate * self.accelerator.num_processes
        order = _loader(self.task.data, self.config, parts, first * parts)
        loader = iter(self.accelerator.prepare(order))
        while True:
            yield list(itertools.islice(loader, self.config.accumulate))

    def step(self, step: int, batches: list[Sample]) -> None:
        """One step of the optimizer."""
        self.model.train()
        self.task.before_step(batches)
        total, figures = 0.0, dict[str, float]()
        for batch in batches:
            is_last = batch is batches[-1]
            alone = nullcontext() if is_last else self.accelerator.no_sync(self.model)
            with alone:
                loss, figures = self._loss(step, batch)
                self.accelerator.backward(loss / len(batches))
            total += loss.item() / len(batches)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        if norm is not None and not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm.item()}", step)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.task.after_step()
        self.log.seen(total, figures)

    def _loss(self, step: int, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        try:
            with self.bf16:
                loss, figures = self.task.loss(self.model, batch)
        except NotFiniteError as cause:
            raise self._diverged(f"a value is not finite ({cause})", step) from cause
        if not math.isfinite(loss.item()):
            raise self._diverged(f"the loss is {loss.item()}", step)
        return loss, figures

    def measure(self, step: int) -> None:
        """Held-out figures into the log, pictures and the model into the folder."""
        try:
            self.figures = self.task.evaluate()
        except NotFiniteError as cause:
            raise self._diverged(f"a held-out value is not finite ({cause})", step) from cause
        for name, value in self.figures.items():
            if math.isnan(value):
                raise self._diverged(f"the held-out {name} is NaN", step)
        if self.accelerator.is_main_process:
            self.log.measured(step, self.figures)
            parts = self.config.accumulate * self.accelerator.num_processes
            seen = step * self.config.batch_size * parts
            self.log.warn(self.task.warnings(self.figures, seen / self._length))
            self.task.show(self.out)
            self.task.save(self.out / "model")
            self.saved = True
            write_curves(self.out / "log.jsonl", self.out / "curves.png")

    def save(self, step: int) -> None:
        """All that the run needs to go on."""
        from accelerate.utils import gather_object

        randomness = gather_object([random_state()])
        if self.accelerator.is_main_process:
            said = {
                "step": step,
                "run": self._asked_for(),
                "schedule": self.schedule.state_dict(),
                "log": self.log.state_dict(),
                "figures": self.figures,
                "saved": self.saved,
            }
            path = self.out / FILE
            save_state(path, self.task.model, self.optimizer.optimizer, randomness, said)

    def forget(self) -> None:
        """A run that begins anew must not be gone on with from the state of an earlier one."""
        if self.accelerator.is_main_process:
            (self.out / FILE).unlink(missing_ok=True)

    def restore(self) -> int:
        """Go on from what `save` wrote; returns the number of steps that are done."""
        path = self.out / FILE
        said, _ = read_state(path)
        for name, value in self._asked_for().items():
            before = said["run"].get(name)
            if before != value:
                raise ResumeError(
                    f"{self.out} was begun with {name} {before}, not {value}; give the same "
                    f"command again, or start anew with --overwrite"
                )
        said, randomness = load_state(path, self.task.model, self.optimizer.optimizer)
        self.schedule.load_state_dict(said["schedule"])
        self.figures, self.saved = said["figures"], said["saved"]
        self.log.load_state_dict(said["log"], said["step"])
        set_random_state(randomness[self.accelerator.process_index])
        return int(said["step"])

    def is_to_stop(self, signals: StopSignals) -> bool:
        """Whether a process was told to: then all stop, at the same step."""
        if self.accelerator.num_processes == 1:
            return signals.came
        came = torch.tensor(int(signals.came), device=self.accelerator.device)
        return bool(self.accelerator.reduce(came, reduction="sum").item())

    @property
    def _length(self) -> int:
        return len(self.task.data)  # type: ignore[arg-type]

    def _asked_for(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        processes = self.accelerator.num_processes
        return {**asdict(self.config), "items": self._length, "processes": processes}

    def _diverged(self, what: str, step: int) -> FloatingPointError:
        """The error of a run that cannot go on; weights that are not finite are never saved."""
        last = f"the last good model is in {self.out / 'model'}; " if self.saved else ""
        return FloatingPointError(
            f"{what} at step {step}; {last}a lower learning_rate usually helps{self._seen(step)}"
        )

    def _seen(self, step: int) -> str:
        """What data the step was on, where the data can tell."""
        name: Callable[[int], str] | None = getattr(self.task.data, "name", None)
        if name is None:
            return ""
        parts = self.config.accumulate * self.accelerator.num_processes
        order = _order(self._length, self.config, parts, (step - 1) * parts)
        items = list(itertools.chain.from_iterable(itertools.islice(order, parts)))
        more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
        return f". It was on {', '.join(map(name, items[:NAMED]))}{more}"


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameters for the optimizer: a quantizer's do not decay, or unused entries would shrink."""
    of_quantizers = {
        parameter
        for module in model.modules()
        if isinstance(module, Quantizer)
        for parameter in module.parameters()
    }
    others = [parameter for parameter in model.parameters() if parameter not in of_quantizers]
    return [
        {"params": others},
        {"params": [p for p in model.parameters() if p in of_quantizers], "weight_decay": 0.0},
    ]


def _rate(step: int, config: TrainingConfig) -> float:
    """Share of the learning rate: up over the warm-up, then down to a twentieth at the end."""
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return rise * (1 - 0.95 * min(1.0, step / config.steps))


def _works_in_bf16(precision: Precision) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A torch that cannot tell what the processor has works in fp32.
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def _loader(
    data: Dataset[Sample], config: TrainingConfig, parts: int = 1, start: int = 0
) -> DataLoader[Sample]:
    """Batches without end, in an order that the seed decides, from batch number `start` on.

    Each step uses up `parts` of them: several processes take turns, each for as many as it
    accumulates.
    """
    return DataLoader(
        data,
        batch_sampler=_order(len(data), config, parts, start),  # type: ignore[arg-type]
        generator=torch.Generator(),  # for the workers' seeds, which else take from the global one
        num_workers=config.num_workers,
    )


def _order(length: int, config: TrainingConfig, parts: int, start: int) -> BatchOrder:
    size = max(1, min(config.batch_size, length // parts))
    return BatchOrder(length, batch_size=size, seed=config.seed, start=start, parts=parts)
