"""Both stages at once, which the paper leaves for future work (section 3.2, end).

The loss is the bound of section 3.2 with the prior that is being learnt in place of the uniform
one: log p(x | z_q) + rate_weight log p(codes), and the commitment and codebook terms of eq. 3.
Codes are whole numbers, so the prior's term reaches the encoder by way of the codes it might have
chosen: each as likely as its distance from z_e says, at the price that the prior asks for it after
the codes before, as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.checkpoint import save
from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample, cond_of
from vqvideo.generator import Generator
from vqvideo.metrics import entropy_nats
from vqvideo.modes import evaluating
from vqvideo.priors import Prior
from vqvideo.sampling import generate
from vqvideo.training.loop import train
from vqvideo.training.pictures import num_shown, show_rows
from vqvideo.training.task import TrainingConfig
from vqvideo.training.vqvae import VQVAETask
from vqvideo.vqvae import VQVAE, VQVAEOutput

SMALL = 1e-6  # a squared distance that is divided by


def train_joint(
    generator: Generator,
    data: ClipDataset,
    held_out: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    rate_weight: float = 1.0,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.vqvae` and `generator.prior` together; returns the last held-out figures.

    Args:
        generator: with a prior; its quantizer has one codebook.
        data: to train on.
        held_out: to measure on.
        out: the run's folder; gets what `train` leaves in it, pictures of reconstructions and of
            samples.
        config: steps, batch size and so on.
        rate_weight: of the prior's term for the encoder, at least 0. At 1 the loss is the bound; at
            0 the first stage learns as if it were alone.
        resume: go on from where a run in `out` was stopped; see `train`.
    """
    quantizer = generator.vqvae.quantizer
    own = quantizer.auto_step
    quantizer.auto_step = False  # the loop calls step() itself, after each optimizer step
    try:
        task = JointTask(generator, data, held_out, rate_weight)
        return train(task, config, out, resume=resume)
    finally:
        quantizer.auto_step = own


class JointOutput(NamedTuple):
    """Attributes:
    vqvae: what the first stage gave.
    nats: scalar, -log p(code) per code, by which the prior learns.
    rate: scalar, what the prior asks per code, by which the encoder learns.
    """

    vqvae: VQVAEOutput
    nats: Tensor
    rate: Tensor


class Joint(nn.Module):
    """Both stages as one module, so that wrappers for data parallel training see one `forward`."""

    def __init__(self, vqvae: VQVAE, prior: Prior) -> None:
        super().__init__()
        self.vqvae, self.prior = vqvae, prior

    def forward(
        self, x: Tensor, cond: Cond | None = None, for_decoder: Cond | None = None
    ) -> JointOutput:
        has_started = not self.vqvae.quantizer.warming_up
        z_e = self.vqvae.z_e(x)
        quantized = self.vqvae.quantizer(z_e)
        parameters = self.vqvae.parameters_of(quantized.z_q, for_decoder)
        logits = self.prior.logits(quantized.codes, cond).float()
        nats = F.cross_entropy(logits, quantized.codes)
        if not has_started:  # there are no entries yet that codes could stand for
            return JointOutput(VQVAEOutput(parameters, quantized), nats, nats.new_zeros(()))
        shares = self._shares(z_e.float())
        asked = -logits.detach().log_softmax(dim=1)
        rate = (shares * asked).sum(dim=1).mean()
        return JointOutput(VQVAEOutput(parameters, quantized), nats, rate)

    def _shares(self, z_e: Tensor) -> Tensor:
        """How likely each entry is to be chosen for z_e, `[b, K, *grid]`: the softmax of minus its
        squared distance, that of the nearest as the unit.
        """
        codes = torch.arange(self.vqvae.quantizer.codebook_size, device=z_e.device)
        entries = self.vqvae.quantizer.decode(codes[None])[0].T.detach().float()
        rows = z_e.movedim(1, -1)
        vectors = rows.flatten(0, -2)
        # By products alone the least distance, which is the unit, would be lost in rounding.
        exact = "donot_use_mm_for_euclid_dist"
        squared = torch.cdist(vectors, entries, compute_mode=exact).square()
        unit = squared.detach().amin(dim=1, keepdim=True).clamp(min=SMALL)
        shares = (-squared / unit).softmax(dim=1)
        return shares.view(*rows.shape[:-1], len(codes)).movedim(-1, 1)


class JointTask:
    """See `vqvideo.training.task.Task`: that of the first stage, and the prior beside it."""

    def __init__(
        self, generator: Generator, data: ClipDataset, held_out: ClipDataset, rate_weight: float
    ) -> None:
        if generator.prior is None:
            raise ValueError("the generator has no prior to train; build one with prior=NAME")
        quantizer = generator.vqvae.quantizer
        if not quantizer.plain_lookup or quantizer.num_codebooks > 1:
            raise ValueError(
                "joint training takes a quantizer that gives z_e the nearest entry of one "
                "codebook; take vector or ema, no cosine, no projection, or train in two stages"
            )
        if not generator.prior.exact_likelihood:
            raise ValueError(
                "joint training takes a prior that gives each code its price; one with latents is "
                "trained after the first stage"
            )
        if not rate_weight >= 0:
            raise ValueError(f"rate_weight must be at least 0, got {rate_weight}")
        self.generator, self.prior, self.rate_weight = generator, generator.prior, rate_weight
        self.first = VQVAETask(generator, data, held_out)
        self.data = self.first.data
        self.told = [held_out[i] for i in self.first.indices]
        self.model: nn.Module = Joint(generator.vqvae, generator.prior)

    @property
    def identity(self) -> dict[str, Any]:
        config = self.generator.config
        said = {} if config is None else config.to_dict()
        return {**said, "rate_weight": self.rate_weight}

    def before_step(self, batches: list[Sample]) -> None:
        self.first.before_step(batches)

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.first.like_weights(batch["x"])
        output = model(x, self._told(batch), self.first.told(batch))
        found = self.first.vqvae.loss(x, output.vqvae, observe=False)
        # Eq. 3 is counted per dimension of the data, so the prior's nats are too.
        per_dim = output.vqvae.quantized.codes[0].numel() / x[0].numel()
        total = found.total + per_dim * (output.nats + self.rate_weight * output.rate)
        return total, {**self.first.figures(x, found), "nats_per_code": output.nats.item()}

    def after_step(self) -> None:
        self.first.after_step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        figures, nats = self.first.evaluate(), 0.0
        with evaluating(self.prior):
            for x, sample in zip(self.first.held_out, self.told, strict=True):
                codes = self.generator.vqvae.encode(self.first.like_weights(x[None]))
                one = {name: value[None] for name, value in sample.items()}
                nats -= self.prior.log_prob(codes, self._told(one)).sum().item()
        return {
            **figures,
            "nats_per_code": nats / self.first.counts.sum().item(),
            "unigram_nats": entropy_nats(self.first.counts[0]).item(),
            "uniform_nats": math.log(self.prior.codebook_size),
        }

    def warnings(self, figures: dict[str, float], epochs: float) -> dict[str, str]:
        return self.first.warnings(figures, epochs)

    def show(self, folder: Path) -> dict[str, Tensor]:
        pictures = self.first.show(folder)
        if self.prior.rank > 1:
            few = self.told[: num_shown(self.generator.vqvae.likelihood)]
            batch = {name: torch.stack([each[name] for each in few]) for name in few[0]}
            vqvae = self.generator.vqvae
            shape = vqvae.grid_shape(self.generator.sample_shape or ())
            codes = generate(self.prior, shape, batch=len(few), cond=self._told(batch))
            samples = vqvae.decode(codes, self.first.told(batch))
            rate = self.generator.config.rate
            pictures |= show_rows(folder, "samples", [samples], rate)
        return pictures

    def save(self, folder: Path) -> None:
        save(self.generator, folder, overwrite=True)

    def _told(self, batch: Sample) -> Cond | None:
        return cond_of(batch, self.prior.cond.takes, self.prior.device)
