"""How well a VQ-VAE reconstructs after so many seconds of training on this machine.

For each budget of seconds and each seed there is one run whose schedule ends there: its number of
steps is what the machine does in that time, measured right before. Beside seconds stand units, the
time of one matrix product here (`timing.UNIT`), which carry a time to another machine as far as
anything does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vqvideo.data.clips import ClipDataset
from vqvideo.jobs.benchmark.memory import STATUS
from vqvideo.jobs.benchmark.runs import Rows, claim, is_complete, log_of
from vqvideo.jobs.benchmark.timing import unit_ms
from vqvideo.jobs.train_vqvae import train_vqvae
from vqvideo.models import build
from vqvideo.report.machine import setting
from vqvideo.training import OptimizerConfig, TrainingConfig
from vqvideo.training.run import Run
from vqvideo.training.task import Precision
from vqvideo.training.vqvae import VQVAETask

FIRST_STEPS, TIMED_STEPS = 4, 15  # the first do not count: they load code, or compile
MEASUREMENTS = 10  # of each run
SPARE = 0.97  # of a budget is planned for: single steps take longer now and then
VARIANTS: list[tuple[Precision, bool]] = [
    ("fp32", False),
    ("fp32", True),
    ("bf16", False),
    ("bf16", True),
]
Sets = tuple[ClipDataset, ClipDataset]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What is trained on what: what all runs of a benchmark have in common.

    Attributes:
        data: a folder of files of the model's rank.
        out: a folder for the runs and the decoded files.
        model: a registered name.
        optimizer: how weights move.
        batch_size: clips in a step.
    """

    data: str
    out: str
    model: str = "video"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 8

    @property
    def cache(self) -> str:
        """For the decoded files."""
        return str(Path(self.out) / "cache")

    def clips(self, split: str) -> ClipDataset:
        """Windows that begin at every frame, decoded by now."""
        shape = build(self.model).config.sample_shape
        clips = ClipDataset(self.data, shape, split=split, step=1, cache=self.cache)
        clips.fill_cache()
        return clips

    def config(self, steps: int, **options: Any) -> TrainingConfig:
        """Of a run of so many steps."""
        return TrainingConfig(
            steps=steps, batch_size=self.batch_size, optimizer=self.optimizer, **options
        )


def benchmark_training(
    learner: Learner, *, budgets: Sequence[float] = (75, 300, 900), seeds: int = 3
) -> dict[str, Any]:
    """Train under each budget; returns the setting, the times of steps and the log of each run.

    Args:
        learner: what is trained; runs in its folder that are complete are not run again.
        budgets: seconds of steps. Measuring, saving and decoding the files count in none.
        seeds: runs under each budget, with the seeds 0, 1, ...
    """
    if seeds < 1 or not budgets or min(budgets) <= 0:
        raise ValueError(f"seeds and budgets must be positive, got {seeds} and {list(budgets)}")
    common = {**asdict(learner), "data": Path(learner.data).resolve().name, "out": None}
    claim(Path(learner.out), common)
    found = setting("timm", "accelerate")
    sets = learner.clips("train"), learner.clips("test")
    steps = [_timed(learner, sets, *variant) for variant in VARIANTS]
    runs = [
        {"budget": budget, "seed": seed, "log": _run(learner, sets, budget, seed)}
        for budget in budgets
        for seed in range(seeds)
    ]
    return {
        "setting": found,
        "unit_ms": unit_ms(),
        "steps": steps,
        "runs": runs,
        "peak_mib": _peak_mib(),
    }


def _timed(learner: Learner, sets: Sets, precision: Precision, is_compiled: bool) -> dict[str, Any]:
    """One step: its median in ms, and the seconds that the first ones took, in which networks are
    compiled.
    """
    from accelerate import Accelerator  # imports for a second; only training needs it

    torch.manual_seed(0)
    generator = build(learner.model)
    generator.vqvae.quantizer.auto_step = False  # a run calls step() itself
    number = FIRST_STEPS + TIMED_STEPS
    config = replace(learner.config(number), precision=precision, compile=is_compiled)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(VQVAETask(generator, *sets), config, Path(folder), Accelerator())
        batches, seconds = run.batches(0), []
        for step in range(1, number + 1):
            start = time.perf_counter()
            run.step(step, batches)
            seconds.append(time.perf_counter() - start)
        run.close()
    return {
        "precision": precision,
        "compile": is_compiled,
        "ms": 1000 * statistics.median(seconds[FIRST_STEPS:]),
        "first_s": sum(seconds[:FIRST_STEPS]),
    }


def _run(learner: Learner, sets: Sets, budget: float, seed: int) -> Rows:
    """The log of a run that takes so many seconds, done now unless it was done before."""
    folder = Path(learner.out) / f"{budget:g}-s-seed-{seed}"
    if not is_complete(folder):
        ms_per_step = _timed(learner, sets, "auto", False)["ms"]
        steps = max(1, int(SPARE * 1000 * budget / ms_per_step))
        train_vqvae(
            model=learner.model,
            data=learner.data,
            out=str(folder),
            config=learner.config(steps, seed=seed, eval_every=-(-steps // MEASUREMENTS)),
            step=1,
            cache=learner.cache,
            overwrite=True,
        )
    return log_of(folder)


def _peak_mib() -> float | None:
    """The most memory that this process has held, where Linux tells."""
    if not STATUS.is_file():
        return None
    lines = STATUS.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024
