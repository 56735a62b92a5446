"""Second stage: a prior over the codes of a VQ-VAE that no longer changes (section 3.3)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vqvideo.checkpoint import save
from vqvideo.cond import Cond
from vqvideo.data.clips import Sample, cond_of
from vqvideo.generator import Generator
from vqvideo.metrics import code_histogram, entropy_nats
from vqvideo.modes import evaluating
from vqvideo.quantizers import Quantizer
from vqvideo.sampling import generate
from vqvideo.training.loop import train
from vqvideo.training.pictures import num_shown, show_rows, show_sounds
from vqvideo.training.task import TrainingConfig


def train_prior(
    generator: Generator,
    codes: Dataset[Sample],
    held_out: Dataset[Sample],
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.prior` on codes; the VQ-VAE does not change by a bit.

    Args:
        generator: with a trained `vqvae` and a `prior`.
        codes: samples with `codes` of one grid and what the prior is told about them, such as
            `CodeWindows`; to train on.
        held_out: likewise, to measure on.
        out: the run's folder; gets what `train` leaves in it, and `samples.png` and `.mp4`.
        config: steps, batch size and so on.
        resume: go on from where a run in `out` was stopped; see `train`.

    Returns:
        The last held-out figures: `nats_per_code`, beside `unigram_nats`, the entropy of the
        held-out codes' own histogram (of each codebook's, on average), which a prior must beat,
        and `uniform_nats`, ln K, which it starts from.
    """
    task = PriorTask(generator, codes, held_out)
    own = [quantizer.auto_step for quantizer in task.quantizers]
    try:
        for quantizer in task.quantizers:
            quantizer.auto_step = False  # the loop calls step() itself, after each optimizer step
        return train(task, config, out, resume=resume)
    finally:
        for quantizer, was in zip(task.quantizers, own, strict=True):
            quantizer.auto_step = was


class PriorTask:
    """See `vqvideo.training.task.Task`."""

    def __init__(
        self, generator: Generator, codes: Dataset[Sample], held_out: Dataset[Sample]
    ) -> None:
        if generator.prior is None:
            raise ValueError("the generator has no prior to train; build one with prior=NAME")
        self.generator, self.prior = generator, generator.prior
        self.model: nn.Module = self.prior
        self.quantizers = outermost_quantizers(self.prior)  # of a prior with latents
        self.data, self.held_out = codes, held_out
        self.histogram = self._histogram()
        config = generator.config
        self.identity = {
            "first_stage": generator.vqvae.fingerprint(),
            "prior": None if config is None else config.to_dict()["prior"],
        }

    def before_step(self, batches: list[Sample]) -> None:
        """A prior has nothing to do before steps."""

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        loss = model(batch["codes"], self._told(batch))
        if loss.ndim:
            raise TypeError(
                f"forward of {type(self.prior).__name__} must give a scalar to minimise, see "
                f"Prior.forward; it gives {list(loss.shape)}"
            )
        return loss, {}

    def after_step(self) -> None:
        for quantizer in self.quantizers:
            quantizer.step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        nats = 0.0
        with evaluating(self.prior):
            for batch in DataLoader(self.held_out, batch_size=16):
                codes, cond = batch["codes"].to(self.prior.device), self._told(batch)
                nats -= self.prior.log_prob(codes, cond).sum().item()
        unigram = torch.stack([entropy_nats(counts) for counts in self.histogram])
        return {
            "nats_per_code": nats / self.histogram.sum().item(),
            "unigram_nats": unigram.mean().item(),
            "uniform_nats": math.log(self.prior.codebook_size),
        }

    def warnings(self, figures: dict[str, float], epochs: float) -> dict[str, str]:
        nats, unigram = figures["nats_per_code"], figures["unigram_nats"]
        if epochs < 1 or nats < unigram:
            return {}
        sentence = (
            f"after {epochs:.1f} passes over the codes the prior needs {nats:.2f} nats per code, "
            f"no fewer than the {unigram:.2f} of guessing from how often each code occurs: it has "
            f"learnt nothing from the codes before. Try another learning rate, more clips or less "
            f"dropout; if the loss on what it is trained on is far lower, it learns by heart"
        )
        return {"no better than guessing": sentence}

    def show(self, folder: Path) -> dict[str, Tensor]:
        number = num_shown(self.generator.vqvae.likelihood)
        batch = next(iter(DataLoader(self.held_out, batch_size=number)))
        self.generator.to(self.prior.device)
        vqvae = self.generator.vqvae
        shape = vqvae.grid_shape(self.generator.sample_shape or ())
        codes = generate(self.prior, shape, batch=len(batch["codes"]), cond=self._told(batch))
        samples = vqvae.decode(codes)  # in the voice of nobody, if it is told one
        show = show_sounds if self.prior.rank == 1 else show_rows
        return show(folder, "samples", [samples], self.generator.config.rate)

    def save(self, folder: Path) -> None:
        save(self.generator, folder, overwrite=True)

    def _histogram(self) -> Tensor:
        """How often each code occurs in held-out data, `[s, K]`, one row per codebook."""
        counts = torch.zeros(self.prior.num_codebooks, self.prior.codebook_size, dtype=torch.long)
        for batch in DataLoader(self.held_out, batch_size=64):
            codes = batch["codes"].reshape(-1, self.prior.num_codebooks).T
            counts += torch.stack([code_histogram(each, counts.shape[1]) for each in codes])
        return counts

    def _told(self, batch: Sample) -> Cond | None:
        return cond_of(batch, self.prior.cond.takes, self.prior.device)


def outermost_quantizers(module: nn.Module) -> list[Quantizer]:
    """Quantizers in a module, not those that they are made of."""
    if isinstance(module, Quantizer):
        return [module]
    return [found for child in module.children() for found in outermost_quantizers(child)]
