"""`tools/benchmark.py bits`: bits per dimension of a VAE, VQ-VAEs and VIMCO with the same networks.

Section 4.1 of van den Oord et al. 2017 reports 4.51 for a VAE, 4.67 for a VQ-VAE and 5.14 for VIMCO
on CIFAR-10. Here all methods are trained on one folder of images with the same networks,
likelihood, optimizer, steps and batches. Each method gets the same number of short trials, and the
best trial on a validation set (a tenth of the training data) is trained on three seeds. The prior
is uniform, or N(0, 1), as in training; a learned prior would save more bits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.baselines import Baseline, VAEBaseline, VIMCOBaseline, VQVAEBaseline
from benchmarks.runs import record_settings
from vqvideo.atomic import write_text
from vqvideo.config import MODELS, GeneratorConfig, PartConfig, build_generator, build_likelihood
from vqvideo.data.clips import ClipDataset
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.quantizers import NotFiniteError
from vqvideo.report.environment import collect_environment
from vqvideo.training.optimizer import build_optimizer, set_learning_rate
from vqvideo.training.task import OptimizerConfig

CODE_DIM = 16
NUM_VIMCO_SAMPLES = 10  # the paper uses 50; each costs a decoder pass
VALIDATION_STRIDE = 10  # every tenth training image is for validation


@dataclass(frozen=True)
class Trial:
    """The hyperparameters of a trial.

    Attributes:
        num_latents: codes, or continuous latents, per position.
        codebook_size: number of values of a code; 0 for the VAE.
        learning_rate: peak learning rate.
    """

    num_latents: int
    codebook_size: int
    learning_rate: float


METHODS = ("vae", "vq-vae-gradient", "vq-vae-ema", "vq-vae-product", "vimco")
VAE_LATENTS = (8, 32)
NUM_PRODUCT_CODES = 2  # per position of "vq-vae-product", each with a quarter of the entries


@dataclass(frozen=True, kw_only=True)
class BitsBenchmarkConfig:
    """The settings shared by all methods.

    Attributes:
        data: a folder of images.
        out: a folder for the results of each run; an interrupted benchmark resumes.
        model: a registered image model, whose networks and likelihood are used.
        width: hidden channels; None takes the default of the model.
        size: height and width to which images are resized.
        steps: training steps of each run; trials take a third of them.
        batch_size: images per step.
        seeds: number of runs of each method.
        methods: names from `METHODS`.
        codebook_sizes, learning_rates: the grid of the trials.
    """

    data: str
    out: str
    model: str = "image-cifar"
    width: int | None = 64
    size: tuple[int, int] = (32, 32)
    steps: int = 3000
    batch_size: int = 32
    seeds: int = 3
    methods: tuple[str, ...] = METHODS
    codebook_sizes: tuple[int, ...] = (128, 512)
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; choose from: {', '.join(METHODS)}")
        if not (self.methods and self.codebook_sizes and self.learning_rates):
            raise ValueError("methods, codebook_sizes and learning_rates must not be empty")
        for name in ("steps", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def build_trials(self, method: str) -> list[Trial]:
        """Return the trials of a method, equally many for each method with a codebook."""
        latents = [(1, size) for size in self.codebook_sizes]
        if method == "vae":
            latents = [(num_latents, 0) for num_latents in VAE_LATENTS]
        elif method == "vq-vae-product":
            latents = [(NUM_PRODUCT_CODES, max(2, size // 4)) for size in self.codebook_sizes]
        return [Trial(*each, rate) for rate in self.learning_rates for each in latents]


class RunSpec(NamedTuple):
    """The specification of one run.

    Attributes:
        name: name of the file with its results.
        method: a name from `METHODS`.
        trial: its hyperparameters.
        train, test: images `[n, c, h, w]` for training and evaluation.
        steps: training steps.
        seed: seed of the initial weights and the order of the images.
    """

    name: str
    method: str
    trial: Trial
    train: Tensor
    test: Tensor
    steps: int
    seed: int


def benchmark_bits(
    benchmark_config: BitsBenchmarkConfig, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Tune, train and evaluate every method; return all runs and write them to `bits.json`.

    Args:
        benchmark_config: the settings of the benchmark.
        progress: called with (steps done, total steps) of each run.
    """
    common = {k: v for k, v in asdict(benchmark_config).items() if k not in ("out", "methods")}
    common["data"] = str(Path(benchmark_config.data).resolve())
    common = json.loads(json.dumps(common))  # converts tuples to lists, as in a file
    record_settings(Path(benchmark_config.out), common)
    train, test = (_load_images(benchmark_config, split) for split in ("train", "test"))
    is_val = torch.arange(len(train)) % VALIDATION_STRIDE == 0
    environment = collect_environment("timm")
    results: dict[str, Any] = {"environment": environment, "bench": common, "methods": {}}
    for method in benchmark_config.methods:
        trials = []
        for trial in benchmark_config.build_trials(method):
            size = f"{trial.num_latents}x{trial.codebook_size}-{trial.learning_rate:g}"
            name, steps = f"{method}-trial-{size}", max(1, benchmark_config.steps // 3)
            spec = RunSpec(name, method, trial, train[~is_val], train[is_val], steps, seed=0)
            trials.append(_load_or_run(benchmark_config, spec, progress))
        converged = [run for run in trials if run["bits"] is not None]
        if not converged:
            raise FloatingPointError(f"no trial of {method} converged: {trials[0]['diverged']}")
        best = Trial(**min(converged, key=lambda run: run["bits"])["trial"])
        runs = []
        for seed in range(benchmark_config.seeds):
            name = f"{method}-seed-{seed}"
            spec = RunSpec(name, method, best, train, test, benchmark_config.steps, seed)
            runs.append(_load_or_run(benchmark_config, spec, progress))
        results["methods"][method] = {"trials": trials, "runs": runs}
    write_text(Path(benchmark_config.out) / "bits.json", json.dumps(results, indent=2) + "\n")
    return results


def _load_or_run(
    config: BitsBenchmarkConfig, run_spec: RunSpec, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Return the results of a run, from its file if it was done before with the same settings."""
    file = Path(config.out) / f"{run_spec.name}.json"
    if not file.is_file() or json.loads(file.read_text())["trial"] != asdict(run_spec.trial):
        try:
            results = _train_and_evaluate(config, run_spec, progress)
            if not math.isfinite(results["bits"]):
                raise FloatingPointError(f"{run_spec.name} gives {results['bits']} bits")
        except (FloatingPointError, NotFiniteError) as error:
            if run_spec.steps == config.steps:
                raise
            results = {"trial": asdict(run_spec.trial), "bits": None, "diverged": str(error)}
        write_text(file, json.dumps(results, indent=2) + "\n")
    stored: dict[str, Any] = json.loads(file.read_text())
    return stored


def _train_and_evaluate(
    config: BitsBenchmarkConfig, run_spec: RunSpec, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Train one model and evaluate its bits per dimension."""
    torch.manual_seed(run_spec.seed)
    model = build_baseline(config, run_spec.method, run_spec.trial)
    start_time = time.monotonic()
    optimizer_config = OptimizerConfig(
        name="muon", learning_rate=run_spec.trial.learning_rate, warmup_steps=50
    )
    optimizer = build_optimizer(model, optimizer_config)
    batches = _iterate_batches(run_spec.train, config.batch_size, run_spec.seed)
    for step in range(1, run_spec.steps + 1):
        set_learning_rate(optimizer, optimizer_config, step, run_spec.steps)
        loss = model.loss(next(batches))
        if not loss.isfinite():
            raise FloatingPointError(f"{run_spec.name} diverged at step {step}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_codebook()
        if progress:
            progress(step, run_spec.steps)
    return {
        "trial": asdict(run_spec.trial),
        "seed": run_spec.seed,
        "steps": run_spec.steps,
        "seconds": round(time.monotonic() - start_time, 1),
        **_evaluate_bits(model.eval(), run_spec.test),
    }


def build_baseline(benchmark_config: BitsBenchmarkConfig, method: str, trial: Trial) -> Baseline:
    """Build an untrained model of a method, with the same networks for every method."""
    width = {} if benchmark_config.width is None else {"width": benchmark_config.width}
    config = MODELS.get(benchmark_config.model)().merge(
        encoder=width, decoder=width, sample_shape=benchmark_config.size
    )
    if method.startswith("vq-vae"):
        config = _configure_quantizer(config, method, trial)
        return VQVAEBaseline(build_generator(config, with_prior=False).vqvae)
    likelihood = build_likelihood(config)
    shared = {"rank": config.rank, "strides": config.strides}
    is_vae = method == "vae"
    z_channels = trial.num_latents * (2 if is_vae else trial.codebook_size)
    encoder = ENCODERS.build(
        config.encoder.name,
        config.encoder.options,
        channels=config.channels,
        z_channels=z_channels,
        **shared,
    )
    decoder = DECODERS.build(
        config.decoder.name,
        config.decoder.options,
        channels=likelihood.num_parameters(config.channels),
        z_channels=trial.num_latents * (1 if is_vae else CODE_DIM),
        **shared,
    )
    if is_vae:
        return VAEBaseline(encoder, decoder, likelihood)
    return VIMCOBaseline(
        encoder,
        decoder,
        likelihood,
        num_latents=trial.num_latents,
        codebook_size=trial.codebook_size,
        code_dim=CODE_DIM,
        num_samples=NUM_VIMCO_SAMPLES,
    )


def _configure_quantizer(config: GeneratorConfig, method: str, trial: Trial) -> GeneratorConfig:
    name = "vector" if method.endswith("gradient") else "ema"
    options = {"codebook_size": trial.codebook_size, "code_dim": CODE_DIM}
    if trial.num_latents > 1:
        part = {"num_codebooks": trial.num_latents, "part": {"name": name, **options}}
        return config.merge(quantizer=PartConfig("product", part))
    return config.merge(quantizer=PartConfig(name, options))


@torch.no_grad()
def _evaluate_bits(model: Baseline, images: Tensor) -> dict[str, Any]:
    """Return bits per dimension of images: total, of the data given latents, and of latents."""
    torch.manual_seed(0)  # a VAE samples its latents
    elbos = [model.negative_elbo(batch) for batch in images.split(64)]
    per_dim = images[0].numel() * math.log(2)
    data, latents = (torch.cat(terms).double() / per_dim for terms in zip(*elbos, strict=True))
    total = data + latents
    error = total.std().item() / math.sqrt(len(total))
    return {
        "bits": total.mean().item(),
        "standard_error": error,
        "data_bits": data.mean().item(),
        "latent_bits": latents.mean().item(),
        "images": len(images),
    }


def _load_images(benchmark_config: BitsBenchmarkConfig, split: str) -> Tensor:
    images = ClipDataset(benchmark_config.data, benchmark_config.size, split=split)
    return torch.cat([batch["x"] for batch in DataLoader(images, batch_size=64)])


def _iterate_batches(images: Tensor, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches endlessly, shuffled anew in each epoch."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        for indices in torch.randperm(len(images), generator=rng).split(batch_size):
            yield images[indices]
