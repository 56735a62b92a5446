"""What is trained, and how: the two things that `train` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from torch import Tensor, nn
from torch.utils.data import Dataset

from vqvideo.data.clips import Sample
from vqvideo.training.schedule import check_schedule

KNOWN = ("adamw", "nmuon")  # optimizers that need no asking
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move.

    Attributes:
        name: "adamw", or an optimizer of timm's: "nmuon" moves matrices and kernels by orthogonal
            steps, and learns much more from each.
        learning_rate: at its highest, after the warm-up.
        schedule: how it goes on from there: "linear" falls to a twentieth at the end, "cosine" and
            the other names that `training.schedule` holds are timm's.
        warmup_steps: steps over which the learning rate rises; the schedule runs under it.
        weight_decay: of all weights but those of quantizers and embeddings.
        weight_average: in [0, 1); 0 keeps the weights as they are. Else the model that is measured,
            shown and saved is a moving average of the weights, each step counting so much of those
            before; in the first steps less, so that an average is never of the beginning.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    warmup_steps: int = 100
    weight_decay: float = 0.01
    weight_average: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in KNOWN:
            from timm.optim import list_optimizers  # imports for a second

            if self.name not in list_optimizers():
                raise ValueError(
                    f"there is no optimizer {self.name!r}; adamw is torch's, and the names of the "
                    f"others are in timm.optim.list_optimizers()"
                )
        check_schedule(self.schedule)
        for name in ("learning_rate", "warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.weight_average < 1:
            raise ValueError(f"weight_average must lie in [0, 1), got {self.weight_average}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: items that are worked on at once in each process.
        accumulate: batches of each process that make up one step: as one large batch, in less
            memory.
        eval_every: steps between two measurements on held-out data.
        optimizer: how weights move.
        precision: of the networks; the quantizer always works in float32. "auto" is bf16 where
            the processor has instructions for it, else fp32. "fp16" scales the loss, so that small
            gradients are not lost.
        compile: whether the networks are compiled (`torch.compile`) when they first run;
            docs/benchmarks.md says what it costs and gives.
        seed: decides the initial weights and the order of the data.
        num_workers: processes that read data.
        about: what is to be remembered of the run, plain data for `training.json` and the card of
            the model: where its data and first weights come from. Decides nothing.
    """

    steps: int
    batch_size: int = 8
    accumulate: int = 1
    eval_every: int = 200
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Precision = "auto"
    compile: bool = False
    seed: int = 0
    num_workers: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {known}, got {self.precision!r}")


class Task(Protocol):
    """What `train` needs to know of a model."""

    model: nn.Module

    @property
    def data(self) -> Dataset[Sample]:
        """What to train on."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain data besides the `TrainingConfig` that decides what is learnt: a run that goes on
        must have the same.
        """

    def before_step(self, batches: list[Sample]) -> None:
        """Once before every optimizer step, with all its batches of this process."""

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        """Scalar to minimise, and figures to log; `model` is `self.model` as wrapped."""

    def after_step(self) -> None:
        """Once after every optimizer step."""

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data."""

    def warnings(self, figures: dict[str, float], epochs: float) -> dict[str, str]:
        """What goes wrong, if something does, and what to do, after so many passes over the data: a
        name and a sentence for each. What has a name is said once.
        """

    def show(self, folder: Path) -> dict[str, Tensor]:
        """Pictures into the run's folder; returns each, uint8 `[h, w, 3]`, under its name."""

    def save(self, folder: Path) -> None:
        """The model into the run's folder."""
