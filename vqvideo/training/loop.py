"""The training loop, once, for whatever can say its loss: accelerate does the devices.

`train` runs a `Task`: it draws batches, steps AdamW under a warm-up and a linear decay, shows a
progress bar, measures on held-out data now and then, and leaves a log, curves, pictures and the
model in the run's folder. What is learnt and what is shown is the task's business.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vqvideo.data.clips import Sample
from vqvideo.data.order import BatchOrder
from vqvideo.quantizers import NotFiniteError, Quantizer
from vqvideo.training.curves import write_curves

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: items per step and process.
        learning_rate: at its highest, after the warm-up.
        warmup_steps: steps over which the learning rate rises.
        weight_decay: of AdamW, for all weights but those of a quantizer.
        eval_every: steps between two measurements on held-out data.
        precision: of the networks; the quantizer always works in float32. "auto" is bf16 where
            the processor has instructions for it, else fp32.
        seed: decides the initial weights and the order of the data.
        num_workers: processes that read data.
    """

    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    eval_every: int = 200
    precision: Precision = "auto"
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")


class Task(Protocol):
    """What `train` needs to know of a model."""

    model: nn.Module

    @property
    def data(self) -> Dataset[Sample]:
        """What to train on."""

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        """Scalar to minimise, and figures to log; `model` is `self.model` as wrapped."""

    def after_step(self) -> None:
        """Once after every optimizer step."""

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data."""

    def warning(self, figures: dict[str, float], epochs: float) -> str | None:
        """What goes wrong, if something does, and what to do, after so many passes over the data;
        said once.
        """

    def show(self, folder: Path) -> None:
        """Pictures into the run's folder."""

    def save(self, folder: Path) -> None:
        """The model into the run's folder."""


def train(task: Task, config: TrainingConfig, out: str | Path) -> dict[str, float]:
    """Train and return the last held-out figures; the model is left in evaluation mode.

    Writes into `out`: `model/` (a checkpoint, replaced at each measurement), `log.jsonl` (one
    line per measurement), `curves.png`, pictures, and `training.json` (the config).
    """
    from accelerate import Accelerator  # imports for a second; only training needs it

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "training.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    accelerator = Accelerator()
    bf16 = torch.autocast(
        accelerator.device.type, torch.bfloat16, enabled=_works_in_bf16(config.precision)
    )
    optimizer = torch.optim.AdamW(
        _groups(task.model), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model, optimizer, loader = accelerator.prepare(
        task.model, optimizer, _loader(task.data, config)
    )
    batches = iter(loader)
    log = _Log(out / "log.jsonl", config.steps, accelerator.is_main_process)
    figures: dict[str, float] = {}
    saved = False
    for step in range(1, config.steps + 1):
        model.train()
        try:
            with bf16:
                loss, figures = task.loss(model, next(batches))
        except NotFiniteError as cause:
            raise _diverged(f"a value is not finite ({cause})", step, out, saved) from cause
        if not math.isfinite(loss.item()):
            raise _diverged(f"the loss is {loss.item()}", step, out, saved)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        if norm is not None and not math.isfinite(norm):
            raise _diverged(f"the gradient's norm is {norm.item()}", step, out, saved)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        task.after_step()
        log.seen(loss.item(), figures)
        if step % config.eval_every == 0 or step == config.steps:
            figures = _measured(task, step, out, saved)
            if accelerator.is_main_process:
                log.measured(step, figures)
                epochs = step * config.batch_size * accelerator.num_processes / len(task.data)  # type: ignore[arg-type]
                log.warn(task.warning(figures, epochs))
                task.show(out)
                task.save(out / "model")
                saved = True
                write_curves(out / "log.jsonl", out / "curves.png")
    log.close()
    task.model.eval()
    return figures


def _measured(task: Task, step: int, out: Path, saved: bool) -> dict[str, float]:
    """Held-out figures; raises rather than let a model that gives NaN be saved."""
    try:
        figures = task.evaluate()
    except NotFiniteError as cause:
        raise _diverged(f"a held-out value is not finite ({cause})", step, out, saved) from cause
    for name, value in figures.items():
        if math.isnan(value):
            raise _diverged(f"the held-out {name} is NaN", step, out, saved)
    return figures


def _diverged(what: str, step: int, out: Path, saved: bool) -> FloatingPointError:
    """The error of a run that cannot go on; weights that are not finite are never saved."""
    last = f"the last good model is in {out / 'model'}; " if saved else ""
    return FloatingPointError(f"{what} at step {step}; {last}a lower learning_rate usually helps")


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


class _Log:
    """The progress bar on stderr and the lines of `log.jsonl`."""

    def __init__(self, path: Path, steps: int, shown: bool) -> None:
        self.path, self.start = path, time.monotonic()
        self.losses: list[float] = []
        self.warned = False
        self.bar = tqdm(total=steps, unit="step", disable=None if shown else True)
        if shown:
            path.write_text("")

    def seen(self, loss: float, figures: dict[str, float]) -> None:
        self.losses.append(loss)
        shown = {"loss": loss, **figures}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})
        self.bar.update()

    def measured(self, step: int, figures: dict[str, float]) -> None:
        line: dict[str, Any] = {
            "step": step,
            "seconds": round(time.monotonic() - self.start, 1),
            "loss": sum(self.losses) / len(self.losses),
            **{f"held_out_{name}": value for name, value in figures.items()},
        }
        self.losses.clear()
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def warn(self, sentence: str | None) -> None:
        if sentence and not self.warned:
            self.warned = True
            self.bar.write(f"warning: {sentence}", file=sys.stderr)

    def close(self) -> None:
        self.bar.close()


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


def _loader(data: Dataset[Sample], config: TrainingConfig, start: int = 0) -> DataLoader[Sample]:
    """Batches without end, in an order that the seed decides, from batch number `start` on.

    Several processes take turns at the batches: each step uses up one for each process.
    """
    length: int = len(data)  # type: ignore[arg-type]
    size = min(config.batch_size, length)
    order = BatchOrder(length, batch_size=size, seed=config.seed, start=start)
    return DataLoader(
        data,
        batch_sampler=order,
        generator=torch.Generator(),  # for the workers' seeds, which else take from the global one
        num_workers=config.num_workers,
    )
