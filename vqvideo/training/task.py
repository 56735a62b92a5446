"""What is trained, and how: the two things that `train` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from vqvideo.data.clips import Sample

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: items that are worked on at once in each process.
        accumulate: batches of each process that make up one step: as one large batch, in less
            memory.
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
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    eval_every: int = 200
    precision: Precision = "auto"
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "eval_every"):
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

    def show(self, folder: Path) -> None:
        """Pictures into the run's folder."""

    def save(self, folder: Path) -> None:
        """The model into the run's folder."""
