"""Reconstruction quality of a VQ-VAE after a given training time on this machine.

For each time budget and each seed there is one run whose schedule ends with the budget: the number
of steps is computed from the speed of the machine, measured right before the run. Times are also
given in units, the time of one matrix product on this machine (`timing.UNIT_SHAPE`), to compare
them roughly between machines.
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

from benchmarks.memory import PROC_STATUS
from benchmarks.runs import TrainingLog, is_complete, read_log, record_settings
from benchmarks.timing import measure_unit_ms
from vqvideo.commands.train_vqvae import train_vqvae
from vqvideo.data.clips import ClipDataset
from vqvideo.models import build
from vqvideo.report.environment import collect_environment
from vqvideo.training import OptimizerConfig, TrainingConfig
from vqvideo.training.task import Precision
from vqvideo.training.trainer import Trainer
from vqvideo.training.vqvae import VQVAETask

WARMUP_STEPS, TIMED_STEPS = 4, 15  # warm-up steps load code or compile, and are not counted
NUM_EVALS = 10  # evaluations per run
BUDGET_FRACTION = 0.97  # fraction of the budget to plan for, since some steps take longer
VARIANTS: list[tuple[Precision, bool]] = [
    ("fp32", False),
    ("fp32", True),
    ("bf16", False),
    ("bf16", True),
]
DatasetSplits = tuple[ClipDataset, ClipDataset]


@dataclass(frozen=True, kw_only=True)
class TrainingBenchmarkConfig:
    """The settings shared by all runs of the benchmark.

    Attributes:
        data: a folder of files of the model's rank.
        out: a folder for the runs and the cache of decoded files.
        model: a registered name.
        optimizer: settings of the optimizer.
        batch_size: clips per step.
    """

    data: str
    out: str
    model: str = "video"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 8

    @property
    def cache_dir(self) -> str:
        """Folder of the decoded files."""
        return str(Path(self.out) / "cache")

    def load_clips(self, split: str) -> ClipDataset:
        """Load clips that start at every frame, and decode them all into the cache."""
        shape = build(self.model).config.sample_shape
        clips = ClipDataset(self.data, shape, split=split, clip_stride=1, cache_dir=self.cache_dir)
        clips.fill_cache()
        return clips

    def build_training_config(self, steps: int, **options: Any) -> TrainingConfig:
        """Return the training config of a run with the given number of steps."""
        return TrainingConfig(
            steps=steps, batch_size=self.batch_size, optimizer=self.optimizer, **options
        )


def benchmark_training(
    benchmark_config: TrainingBenchmarkConfig,
    *,
    budgets: Sequence[float] = (75, 300, 900),
    seeds: int = 3,
) -> dict[str, Any]:
    """Train with each budget; return the environment, step times and the log of each run.

    Args:
        benchmark_config: the settings of the benchmark; complete runs in its folder are not
            repeated.
        budgets: seconds of training steps. Evaluating, saving and decoding files are not counted.
        seeds: runs per budget, with seeds 0, 1, ...
    """
    if seeds < 1 or not budgets or min(budgets) <= 0:
        raise ValueError(f"seeds and budgets must be positive, got {seeds} and {list(budgets)}")
    common = {
        **asdict(benchmark_config),
        "data": Path(benchmark_config.data).resolve().name,
        "out": None,
    }
    record_settings(Path(benchmark_config.out), common)
    environment = collect_environment("timm", "accelerate")
    splits = benchmark_config.load_clips("train"), benchmark_config.load_clips("test")
    steps = [_time_steps(benchmark_config, splits, *variant) for variant in VARIANTS]
    runs = [
        {
            "budget": budget,
            "seed": seed,
            "log": _train_for_budget(benchmark_config, splits, budget, seed),
        }
        for budget in budgets
        for seed in range(seeds)
    ]
    return {
        "environment": environment,
        "unit_ms": measure_unit_ms(),
        "steps": steps,
        "runs": runs,
        "peak_mib": _read_peak_mib(),
    }


def _time_steps(
    benchmark_config: TrainingBenchmarkConfig,
    splits: DatasetSplits,
    precision: Precision,
    is_compiled: bool,
) -> dict[str, Any]:
    """Return the median time of a step in ms, and the seconds of the warm-up steps, in which
    networks are compiled.
    """
    from accelerate import Accelerator  # imports for a second; only training needs it

    torch.manual_seed(0)
    generator = build(benchmark_config.model)
    generator.vqvae.quantizer.auto_update = False  # the trainer calls update_codebook()
    num_steps = WARMUP_STEPS + TIMED_STEPS
    config = replace(
        benchmark_config.build_training_config(num_steps), precision=precision, compile=is_compiled
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(VQVAETask(generator, *splits), config, Path(folder), Accelerator())
        batches, seconds = trainer.iter_batches(0), []
        for step in range(1, num_steps + 1):
            start = time.perf_counter()
            trainer.train_step(step, batches)
            seconds.append(time.perf_counter() - start)
        trainer.close()
    return {
        "precision": precision,
        "compile": is_compiled,
        "ms": 1000 * statistics.median(seconds[WARMUP_STEPS:]),
        "first_s": sum(seconds[:WARMUP_STEPS]),
    }


def _train_for_budget(
    benchmark_config: TrainingBenchmarkConfig, splits: DatasetSplits, budget: float, seed: int
) -> TrainingLog:
    """Return the log of a run with the given time budget; train it unless it is complete."""
    folder = Path(benchmark_config.out) / f"{budget:g}-s-seed-{seed}"
    if not is_complete(folder):
        ms_per_step = _time_steps(benchmark_config, splits, "auto", False)["ms"]
        steps = max(1, int(BUDGET_FRACTION * 1000 * budget / ms_per_step))
        train_vqvae(
            model=benchmark_config.model,
            data=benchmark_config.data,
            out=str(folder),
            config=benchmark_config.build_training_config(
                steps, seed=seed, eval_every=-(-steps // NUM_EVALS)
            ),
            clip_stride=1,
            cache_dir=benchmark_config.cache_dir,
            overwrite=True,
        )
    return read_log(folder)


def _read_peak_mib() -> float | None:
    """Return the peak memory of this process in MiB, or None outside Linux."""
    if not PROC_STATUS.is_file():
        return None
    lines = PROC_STATUS.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024
