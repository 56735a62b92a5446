"""Joint training of both stages, which the paper leaves for future work (section 3.2, end).

The loss is the negative bound of section 3.2, with the learnt prior in place of the uniform one:
-log p(x | z_q) - rate_weight log p(codes), plus the commitment and codebook terms of eq. 3.
Codes are discrete, so the gradient of the prior's term reaches the encoder through a soft
assignment: the expected -log p(code | previous codes), where each code is weighted by a softmax of
its negative squared distance to z_e. The previous codes are the ones actually chosen.
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
from vqvideo.data.clips import ClipDataset, Sample, cond_from_batch
from vqvideo.generator import Generator
from vqvideo.metrics import entropy_nats
from vqvideo.modes import eval_mode
from vqvideo.priors import Prior
from vqvideo.quantizers import manual_updates
from vqvideo.sampling import generate
from vqvideo.training.loop import train
from vqvideo.training.previews import get_num_previews, write_video_previews
from vqvideo.training.task import TrainingConfig
from vqvideo.training.vqvae import VQVAETask
from vqvideo.vqvae import VQVAE, VQVAEOutput

EPS = 1e-6  # lower bound of a squared distance in a denominator


def train_joint(
    generator: Generator,
    data: ClipDataset,
    val_data: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    rate_weight: float = 1.0,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.vqvae` and `generator.prior` jointly and return the last validation metrics.

    Args:
        generator: model with a prior; its quantizer has one codebook.
        data: training data.
        val_data: validation data.
        out: the run's folder; receives the files of `train`, and previews of reconstructions and
            samples.
        config: steps, batch size and so on.
        rate_weight: weight of the prior's term in the encoder's loss, at least 0. With 1 the loss
            is the bound; with 0 the first stage trains as in `train_vqvae`.
        resume: resume a stopped run in `out`; see `train`.
    """
    with manual_updates(generator.vqvae.quantizer):
        task = JointTask(generator, data, val_data, rate_weight)
        return train(task, config, out, resume=resume)


class JointOutput(NamedTuple):
    """Output of `JointModel.forward`.

    Attributes:
        vqvae: output of the first stage.
        nll: scalar, mean -log p(code) per code; the prior's loss.
        rate: scalar, expected -log p(code) per code under the soft assignment of z_e; its gradient
            reaches the encoder.
    """

    vqvae: VQVAEOutput
    nll: Tensor
    rate: Tensor


class JointModel(nn.Module):
    """Both stages as one module, so that data-parallel wrappers see one `forward`."""

    def __init__(self, vqvae: VQVAE, prior: Prior) -> None:
        super().__init__()
        self.vqvae, self.prior = vqvae, prior

    def forward(
        self, x: Tensor, cond: Cond | None = None, decoder_cond: Cond | None = None
    ) -> JointOutput:
        is_initialized = not self.vqvae.quantizer.is_warming_up
        z_e = self.vqvae.compute_z_e(x)
        quantized = self.vqvae.quantizer(z_e)
        parameters = self.vqvae.predict_parameters(quantized.z_q, decoder_cond)
        logits = self.prior.logits(quantized.codes, cond).float()
        nll = F.cross_entropy(logits, quantized.codes)
        if not is_initialized:  # the codebook has no entries yet, so codes mean nothing
            return JointOutput(VQVAEOutput(parameters, quantized), nll, nll.new_zeros(()))
        assignment = self._soft_assign(z_e.float())
        code_nats = -logits.detach().log_softmax(dim=1)
        rate = (assignment * code_nats).sum(dim=1).mean()
        return JointOutput(VQVAEOutput(parameters, quantized), nll, rate)

    def _soft_assign(self, z_e: Tensor) -> Tensor:
        """Return the soft assignment of z_e to the entries, `[b, K, *grid]`.

        It is a softmax of the negative squared distances, divided by the distance of the nearest
        entry.
        """
        codes = torch.arange(self.vqvae.quantizer.codebook_size, device=z_e.device)
        entries = self.vqvae.quantizer.decode(codes[None])[0].T.detach().float()
        rows = z_e.movedim(1, -1)
        vectors = rows.flatten(0, -2)
        # Computed as a matrix product, the smallest distance would be lost to rounding.
        compute_mode = "donot_use_mm_for_euclid_dist"
        squared = torch.cdist(vectors, entries, compute_mode=compute_mode).square()
        min_squared = squared.detach().amin(dim=1, keepdim=True).clamp(min=EPS)
        assignment = (-squared / min_squared).softmax(dim=1)
        return assignment.view(*rows.shape[:-1], len(codes)).movedim(-1, 1)


class JointTask:
    """The `vqvideo.training.task.Task` of both stages trained jointly."""

    def __init__(
        self, generator: Generator, data: ClipDataset, val_data: ClipDataset, rate_weight: float
    ) -> None:
        if generator.prior is None:
            raise ValueError("the generator has no prior to train; build one with prior=NAME")
        quantizer = generator.vqvae.quantizer
        if not quantizer.is_nearest_neighbor or quantizer.num_codebooks > 1:
            raise ValueError(
                "joint training requires a quantizer that assigns z_e to the nearest entry of one "
                "codebook; use vector or ema without cosine or projection, or train in two stages"
            )
        if not generator.prior.has_exact_likelihood:
            raise ValueError(
                "joint training requires a prior with an exact likelihood; train a prior with "
                "latents after the first stage"
            )
        if not rate_weight >= 0:
            raise ValueError(f"rate_weight must be at least 0, got {rate_weight}")
        self.generator, self.prior, self.rate_weight = generator, generator.prior, rate_weight
        self.vqvae_task = VQVAETask(generator, data, val_data)
        self.data = self.vqvae_task.data
        self.val_samples = [val_data[i] for i in self.vqvae_task.val_indices]
        self.model: nn.Module = JointModel(generator.vqvae, generator.prior)

    @property
    def identity(self) -> dict[str, Any]:
        config = self.generator.config
        options = {} if config is None else config.to_dict()
        return {**options, "rate_weight": self.rate_weight}

    def before_step(self, batches: list[Sample]) -> None:
        self.vqvae_task.before_step(batches)

    def compute_loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.vqvae_task.prepare_input(batch["x"])
        output = model(x, self._get_prior_cond(batch), self.vqvae_task.get_decoder_cond(batch))
        loss = self.vqvae_task.vqvae.loss(x, output.vqvae, observe=False)
        # Eq. 3 is averaged over the dimensions of the data, so the prior's nats are too.
        per_dim = output.vqvae.quantized.codes[0].numel() / x[0].numel()
        total = loss.total + per_dim * (output.nll + self.rate_weight * output.rate)
        return total, {
            **self.vqvae_task.compute_metrics(x, loss),
            "nats_per_code": output.nll.item(),
        }

    def after_step(self) -> None:
        self.vqvae_task.after_step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        metrics, nats = self.vqvae_task.evaluate(), 0.0
        with eval_mode(self.prior):
            for x, sample in zip(self.vqvae_task.val_x, self.val_samples, strict=True):
                codes = self.generator.vqvae.encode(self.vqvae_task.prepare_input(x[None]))
                batch = {name: value[None] for name, value in sample.items()}
                nats -= self.prior.log_prob(codes, self._get_prior_cond(batch)).sum().item()
        return {
            **metrics,
            "nats_per_code": nats / self.vqvae_task.histograms.sum().item(),
            "unigram_nats": entropy_nats(self.vqvae_task.histograms[0]).item(),
            "uniform_nats": math.log(self.prior.codebook_size),
        }

    def collect_warnings(self, metrics: dict[str, float], epochs: float) -> dict[str, str]:
        return self.vqvae_task.collect_warnings(metrics, epochs)

    def write_previews(self, folder: Path) -> dict[str, Tensor]:
        images = self.vqvae_task.write_previews(folder)
        if self.prior.rank > 1:
            items = self.val_samples[: get_num_previews(self.generator.vqvae.likelihood)]
            batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
            vqvae = self.generator.vqvae
            shape = vqvae.compute_grid_shape(self.generator.sample_shape or ())
            codes = generate(self.prior, shape, batch=len(items), cond=self._get_prior_cond(batch))
            samples = vqvae.decode(codes, self.vqvae_task.get_decoder_cond(batch))
            rate = self.generator.config.rate
            images |= write_video_previews(folder, "samples", [samples], rate)
        return images

    def save(self, folder: Path) -> None:
        save(self.generator, folder, overwrite=True)

    def _get_prior_cond(self, batch: Sample) -> Cond | None:
        return cond_from_batch(batch, self.prior.cond.keys, self.prior.device)
