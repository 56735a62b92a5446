"""The arguments of `train`: the task to train and the training config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from torch import Tensor, nn
from torch.utils.data import Dataset

from vqvideo.arguments import check_seed
from vqvideo.data.clips import Sample
from vqvideo.training.schedule import check_schedule

OWN_OPTIMIZERS = ("adamw", "muon")  # not looked up in timm
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Options of the optimizer, its schedule and the EMA of the weights.

    Attributes:
        name: "adamw"; "muon", which applies orthogonalized updates to matrices and kernels and
            makes more progress per step; or the name of a timm optimizer.
        learning_rate: the peak learning rate, after the warm-up.
        schedule: decay of the learning rate: "linear" decays to 1/20 of the peak; "cosine" and the
            other names in `training.schedule` are timm's.
        warmup_steps: number of steps of linear warm-up; the schedule also runs during them.
        weight_decay: weight decay of all weights except those of quantizers and embeddings.
        model_ema_decay: decay of the EMA of the weights per step, in [0, 1). With 0 there is no
            EMA; otherwise the averaged weights are evaluated, previewed and saved. The decay is
            smaller in the first steps, so that the initial weights do not dominate the average.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    warmup_steps: int = 100
    weight_decay: float = 0.01
    model_ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OWN_OPTIMIZERS:
            from timm.optim import list_optimizers  # slow import (about 1 s)

            if self.name not in list_optimizers():
                raise ValueError(
                    f"unknown optimizer {self.name!r}; expected adamw, muon or a name listed by "
                    f"timm.optim.list_optimizers()"
                )
        check_schedule(self.schedule)
        for name in ("learning_rate", "warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.model_ema_decay < 1:
            raise ValueError(f"model_ema_decay must lie in [0, 1), got {self.model_ema_decay}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options of a training run.

    Attributes:
        steps: number of optimizer steps.
        batch_size: items per batch in each process.
        gradient_accumulation_steps: batches of each process per optimizer step; equivalent to one
            large batch, in less memory.
        eval_every: number of steps between evaluations on validation data.
        optimizer: options of the optimizer.
        precision: precision of the networks; the quantizer always runs in float32. "auto" is bf16
            if the processor has instructions for it, otherwise fp32. "fp16" uses loss scaling, so
            that small gradients do not underflow.
        compile: whether to compile the networks with `torch.compile` on their first call; see
            docs/benchmarks.md for its cost and speed-up.
        seed: seed of the initial weights and of the order of the data.
        num_workers: number of worker processes that load data.
        metadata: plain data recorded in `training.json` and in the model card, such as the origin
            of the data and of the initial weights. It does not affect training.
    """

    steps: int
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    eval_every: int = 200
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "auto"
    compile: bool = False
    seed: int = 0
    num_workers: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "gradient_accumulation_steps", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_seed(self.seed)
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {known}, got {self.precision!r}")


class Task(Protocol):
    """The interface between `train` and a model: data, loss, metrics and previews."""

    model: nn.Module

    @property
    def data(self) -> Dataset[Sample]:
        """Training data."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain data beyond the `TrainingConfig` that determines the training result.

        A run can be resumed only with the same identity.
        """

    def before_step(self, batches: list[Sample]) -> None:
        """Prepare an optimizer step; called once with all batches of this process."""

    def compute_loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and metrics to log; `model` is the wrapped `self.model`."""

    def after_step(self) -> None:
        """Finish an optimizer step; called once after every step."""

    def evaluate(self) -> dict[str, float]:
        """Return the metrics on validation data."""

    def collect_warnings(self, metrics: dict[str, float], epochs: float) -> dict[str, str]:
        """Return warnings after a number of epochs: a name and a message for each problem.

        A warning of one name is shown only once per run.
        """

    def write_previews(self, folder: Path) -> dict[str, Tensor]:
        """Write previews into the run's folder and return images, uint8 `[h, w, 3]`, by name."""

    def save(self, folder: Path) -> None:
        """Save the model into a folder."""
