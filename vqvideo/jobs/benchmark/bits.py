"""`vqvideo benchmark bits`: bits per dimension of a VAE, VQ-VAEs and VIMCO of one network.

Section 4.1 of van den Oord et al. 2017 has 4.51 for a VAE, 4.67 for a VQ-VAE and 5.14 for VIMCO on
CIFAR-10. Here all are trained alike on one folder of images: network, likelihood, optimizer, steps
and batches are the same, and each method gets the same number of short trials, from which the one
that does best on a tenth of the training data is trained on three seeds. The prior is uniform, or
N(0, 1), as in training; what a learnt prior saves comes on top.
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

from vqvideo import presets  # noqa: F401 - registers the built-in models
from vqvideo.config import MODELS, GeneratorConfig, Part, build_generator, build_likelihood
from vqvideo.data.clips import ClipDataset
from vqvideo.jobs.benchmark.baselines import Baseline, Continuous, Discrete, Vimco
from vqvideo.jobs.benchmark.runs import claim
from vqvideo.media.files import output_file
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.quantizers import NotFiniteError
from vqvideo.report.machine import setting
from vqvideo.training.optimizer import optimizer_of, set_learning_rate
from vqvideo.training.task import OptimizerConfig

CODE_DIM = 16
VIMCO_SAMPLES = 10  # the paper takes 50; each costs a pass of the decoder
VALIDATION = 10  # every tenth of the training images judges trials


@dataclass(frozen=True)
class Trial:
    """Attributes:
    latents: at each position of the grid: codes, or continuous numbers.
    codebook_size: values that a code can take; 0 for the VAE.
    learning_rate: at its highest.
    """

    latents: int
    codebook_size: int
    learning_rate: float


METHODS = ("vae", "vq-vae-gradient", "vq-vae-ema", "vq-vae-product", "vimco")
VAE_LATENTS = (8, 32)
PRODUCT = 2  # codes a position of "vq-vae-product", each of a quarter of the entries


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all methods have in common.

    Attributes:
        data: a folder of images.
        out: a folder for the results, trial by trial: an interrupted benchmark goes on.
        model: a registered model of images, whose networks and likelihood are taken.
        width: hidden channels; None takes the model's.
        size: height and width to which images are brought.
        steps: of each run; trials take a third of them.
        batch_size: images per step.
        seeds: runs of each method.
        methods: names among `METHODS`.
        codebook_sizes: of the trials: values that a code can take.
        learning_rates: of the trials.
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
            raise ValueError(f"no method {unknown[0]!r}; there are: {', '.join(METHODS)}")
        if not (self.methods and self.codebook_sizes and self.learning_rates):
            raise ValueError("methods, codebook_sizes and learning_rates must hold one at least")
        for name in ("steps", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def trials(self, method: str) -> list[Trial]:
        """The settings that are tried, as many for each method that has sizes of codebooks."""
        latents = [(1, size) for size in self.codebook_sizes]
        if method == "vae":
            latents = [(number, 0) for number in VAE_LATENTS]
        elif method == "vq-vae-product":
            latents = [(PRODUCT, max(2, size // 4)) for size in self.codebook_sizes]
        return [Trial(*each, rate) for rate in self.learning_rates for each in latents]


class Job(NamedTuple):
    """One run.

    Attributes:
        name: of the file of its results.
        method: a name among `METHODS`.
        trial: its settings.
        train, test: images `[n, c, h, w]`, to learn from and to measure on.
        steps: to train.
        seed: decides the first weights and the order of the images.
    """

    name: str
    method: str
    trial: Trial
    train: Tensor
    test: Tensor
    steps: int
    seed: int


def benchmark_bits(
    bench: Bench, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Try, train and measure every method; returns (and leaves in `bits.json`) all runs.

    Args:
        bench: what is compared, and how.
        progress: called with (steps done, steps in all) of each run.
    """
    common = {k: v for k, v in asdict(bench).items() if k not in ("out", "methods")}
    common["data"] = str(Path(bench.data).resolve())
    common = json.loads(json.dumps(common))  # tuples as lists, as a file has them
    claim(Path(bench.out), common)
    train, test = (_images(bench, split) for split in ("train", "test"))
    judges = torch.arange(len(train)) % VALIDATION == 0
    found: dict[str, Any] = {"setting": setting("timm"), "bench": common, "methods": {}}
    for method in bench.methods:
        trials = []
        for trial in bench.trials(method):
            size = f"{trial.latents}x{trial.codebook_size}-{trial.learning_rate:g}"
            name, steps = f"{method}-trial-{size}", max(1, bench.steps // 3)
            job = Job(name, method, trial, train[~judges], train[judges], steps, seed=0)
            trials.append(_kept(bench, job, progress))
        converged = [run for run in trials if run["bits"] is not None]
        if not converged:
            raise FloatingPointError(f"no trial of {method} converges: {trials[0]['diverged']}")
        best = Trial(**min(converged, key=lambda run: run["bits"])["trial"])
        runs = []
        for seed in range(bench.seeds):
            job = Job(f"{method}-seed-{seed}", method, best, train, test, bench.steps, seed)
            runs.append(_kept(bench, job, progress))
        found["methods"][method] = {"trials": trials, "runs": runs}
    (Path(bench.out) / "bits.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def _kept(bench: Bench, job: Job, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """What a run found, from its file if it has been done before with the same settings."""
    file = Path(bench.out) / f"{job.name}.json"
    if not file.is_file() or json.loads(file.read_text())["trial"] != asdict(job.trial):
        try:
            found = _run(bench, job, progress)
            if not math.isfinite(found["bits"]):
                raise FloatingPointError(f"{job.name} gives {found['bits']} bits")
        except (FloatingPointError, NotFiniteError) as why:
            if job.steps == bench.steps:
                raise
            found = {"trial": asdict(job.trial), "bits": None, "diverged": str(why)}
        with output_file(file, suffixes=(".json",), overwrite=True) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n")
    kept: dict[str, Any] = json.loads(file.read_text())
    return kept


def _run(bench: Bench, job: Job, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Train one model and measure its bits."""
    torch.manual_seed(job.seed)
    model = model_of(bench, job.method, job.trial)
    started = time.monotonic()
    config = OptimizerConfig(name="nmuon", learning_rate=job.trial.learning_rate, warmup_steps=50)
    optimizer = optimizer_of(model, config)
    batches = _batches(job.train, bench.batch_size, job.seed)
    for step in range(1, job.steps + 1):
        set_learning_rate(optimizer, config, step, job.steps)
        loss = model.loss(next(batches))
        if not loss.isfinite():
            raise FloatingPointError(f"{job.name} diverges at step {step}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.step()
        if progress:
            progress(step, job.steps)
    return {
        "trial": asdict(job.trial),
        "seed": job.seed,
        "steps": job.steps,
        "seconds": round(time.monotonic() - started, 1),
        **_measured(model.eval(), job.test),
    }


def model_of(bench: Bench, method: str, trial: Trial) -> Baseline:
    """An untrained model of a method, of the same network whatever the method."""
    width = {} if bench.width is None else {"width": bench.width}
    config = MODELS.get(bench.model)().updated(
        encoder=width, decoder=width, sample_shape=bench.size
    )
    if method.startswith("vq-vae"):
        return Discrete(build_generator(_with_codes(config, method, trial), with_prior=False).vqvae)
    likelihood = build_likelihood(config)
    shared = {"rank": config.rank, "strides": config.strides}
    is_vae = method == "vae"
    z_channels = trial.latents * (2 if is_vae else trial.codebook_size)
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
        z_channels=trial.latents * (1 if is_vae else CODE_DIM),
        **shared,
    )
    if is_vae:
        return Continuous(encoder, decoder, likelihood)
    return Vimco(
        encoder,
        decoder,
        likelihood,
        num_latents=trial.latents,
        codebook_size=trial.codebook_size,
        code_dim=CODE_DIM,
        num_samples=VIMCO_SAMPLES,
    )


def _with_codes(config: GeneratorConfig, method: str, trial: Trial) -> GeneratorConfig:
    name = "vector" if method.endswith("gradient") else "ema"
    options = {"codebook_size": trial.codebook_size, "code_dim": CODE_DIM}
    if trial.latents > 1:
        part = {"num_codebooks": trial.latents, "part": {"name": name, **options}}
        return config.updated(quantizer=Part("product", part))
    return config.updated(quantizer=Part(name, options))


@torch.no_grad()
def _measured(model: Baseline, images: Tensor) -> dict[str, Any]:
    """Bits per dimension of images: in all, of the data given the latents, and of the latents."""
    torch.manual_seed(0)  # a VAE draws its latents
    each = [model.nats(batch) for batch in images.split(64)]
    per_dim = images[0].numel() * math.log(2)
    data, latents = (torch.cat(terms).double() / per_dim for terms in zip(*each, strict=True))
    total = data + latents
    error = total.std().item() / math.sqrt(len(total))
    return {
        "bits": total.mean().item(),
        "standard_error": error,
        "data_bits": data.mean().item(),
        "latent_bits": latents.mean().item(),
        "images": len(images),
    }


def _images(bench: Bench, split: str) -> Tensor:
    images = ClipDataset(bench.data, bench.size, split=split)
    return torch.cat([batch["x"] for batch in DataLoader(images, batch_size=64)])


def _batches(images: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Without end, in a new order each time round."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        for indices in torch.randperm(len(images), generator=draw).split(size):
            yield images[indices]
