"""Second stage: a prior over the codes of a frozen VQ-VAE (section 3.3)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vqvideo.checkpoint import save
from vqvideo.cond import Cond
from vqvideo.data.clips import Sample, cond_from_batch
from vqvideo.generator import Generator
from vqvideo.metrics import code_histogram, entropy_nats
from vqvideo.modes import eval_mode
from vqvideo.quantizers import Quantizer, manual_updates
from vqvideo.sampling import generate
from vqvideo.training.loop import train
from vqvideo.training.previews import get_num_previews, write_audio_previews, write_video_previews
from vqvideo.training.task import TrainingConfig


def train_prior(
    generator: Generator,
    codes: Dataset[Sample],
    val_codes: Dataset[Sample],
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.prior` on codes; the VQ-VAE does not change by a bit.

    Args:
        generator: model with a trained `vqvae` and a `prior`.
        codes: training data, such as `CodeDataset`: samples with `codes` of one grid and the
            conditions of the prior.
        val_codes: validation data of the same form.
        out: the run's folder; receives the files of `train`, `samples.png` and `samples.mp4`.
        config: steps, batch size and so on.
        resume: resume a stopped run in `out`; see `train`.

    Returns:
        The last validation metrics: `nats_per_code`, the NLL; `unigram_nats`, the entropy of the
        histogram of the validation codes (averaged over codebooks), which a prior must beat; and
        `uniform_nats`, ln K, where an untrained prior starts.
    """
    task = PriorTask(generator, codes, val_codes)
    with manual_updates(*task.quantizers):
        return train(task, config, out, resume=resume)


class PriorTask:
    """The `vqvideo.training.task.Task` of the second stage."""

    def __init__(
        self, generator: Generator, codes: Dataset[Sample], val_codes: Dataset[Sample]
    ) -> None:
        if generator.prior is None:
            raise ValueError("the generator has no prior to train; build one with prior=NAME")
        self.generator, self.prior = generator, generator.prior
        self.model: nn.Module = self.prior
        self.quantizers = find_outermost_quantizers(self.prior)  # a prior with latents has its own
        self.data, self.val_data = codes, val_codes
        self.histograms = self._compute_histograms()
        config = generator.config
        self.identity = {
            "first_stage": generator.vqvae.fingerprint(),
            "prior": None if config is None else config.to_dict()["prior"],
        }

    def before_step(self, batches: list[Sample]) -> None:
        """Do nothing: a prior needs no preparation."""

    def compute_loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        loss = model(batch["codes"], self._get_prior_cond(batch))
        if loss.ndim:
            raise TypeError(
                f"forward of {type(self.prior).__name__} must return a scalar loss, see "
                f"Prior.forward; got shape {list(loss.shape)}"
            )
        return loss, {}

    def after_step(self) -> None:
        for quantizer in self.quantizers:
            quantizer.update_codebook()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        nats = 0.0
        with eval_mode(self.prior):
            for batch in DataLoader(self.val_data, batch_size=16):
                codes, cond = batch["codes"].to(self.prior.device), self._get_prior_cond(batch)
                nats -= self.prior.log_prob(codes, cond).sum().item()
        unigram = torch.stack([entropy_nats(counts) for counts in self.histograms])
        return {
            "nats_per_code": nats / self.histograms.sum().item(),
            "unigram_nats": unigram.mean().item(),
            "uniform_nats": math.log(self.prior.codebook_size),
        }

    def collect_warnings(self, metrics: dict[str, float], epochs: float) -> dict[str, str]:
        nats, unigram = metrics["nats_per_code"], metrics["unigram_nats"]
        if epochs < 1 or nats < unigram:
            return {}
        message = (
            f"after {epochs:.1f} epochs the NLL of the prior is {nats:.2f} nats per code, no "
            f"lower than the {unigram:.2f} of the code frequencies alone: it has learnt nothing "
            f"from the previous codes. Try another learning rate, more clips or less dropout; if "
            f"the training loss is far lower, the prior overfits"
        )
        return {"no better than guessing": message}

    def write_previews(self, folder: Path) -> dict[str, Tensor]:
        num_previews = get_num_previews(self.generator.vqvae.likelihood)
        batch = next(iter(DataLoader(self.val_data, batch_size=num_previews)))
        self.generator.to(self.prior.device)
        vqvae = self.generator.vqvae
        shape = vqvae.compute_grid_shape(self.generator.sample_shape or ())
        codes = generate(
            self.prior, shape, batch=len(batch["codes"]), cond=self._get_prior_cond(batch)
        )
        samples = vqvae.decode(codes)  # a decoder with conditions runs unconditionally here
        write = write_audio_previews if self.prior.rank == 1 else write_video_previews
        return write(folder, "samples", [samples], self.generator.config.rate)

    def save(self, folder: Path) -> None:
        save(self.generator, folder, overwrite=True)

    def _compute_histograms(self) -> Tensor:
        """Count each code in the validation data, `[s, K]`, one row per codebook."""
        counts = torch.zeros(self.prior.num_codebooks, self.prior.codebook_size, dtype=torch.long)
        for batch in DataLoader(self.val_data, batch_size=64):
            codes = batch["codes"].reshape(-1, self.prior.num_codebooks).T
            counts += torch.stack([code_histogram(each, counts.shape[1]) for each in codes])
        return counts

    def _get_prior_cond(self, batch: Sample) -> Cond | None:
        return cond_from_batch(batch, self.prior.cond.keys, self.prior.device)


def find_outermost_quantizers(module: nn.Module) -> list[Quantizer]:
    """Return the quantizers in a module, without the parts of composite quantizers."""
    if isinstance(module, Quantizer):
        return [module]
    return [
        quantizer for child in module.children() for quantizer in find_outermost_quantizers(child)
    ]
