"""First stage: encoder, codebook and decoder of a VQ-VAE, the prior uniform (eq. 3)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vqvideo.checkpoint import save
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.generator import Generator
from vqvideo.media import write_contact_sheet
from vqvideo.metrics import code_histogram, perplexity, psnr_db, psnr_db_of_mse, usage
from vqvideo.modes import evaluating
from vqvideo.training.loop import train
from vqvideo.training.task import TrainingConfig

HELD_OUT = 64  # items: enough for a steady figure, few enough to be quick
FEW = 50  # clips, which a model of millions of weights learns by heart
CODES_PER_ENTRY = 10  # fewer say little about which entries are used
MEMORY_FORMAT = {  # how convolutions on a CPU like their data
    2: torch.channels_last,
    3: torch.channels_last_3d,
}


def train_vqvae(
    generator: Generator,
    data: ClipDataset,
    held_out: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.vqvae` on windows of data; returns the last held-out figures.

    Args:
        generator: a model whose prior is not touched and not saved.
        data: to train on.
        held_out: to measure on.
        out: the run's folder; gets `model/`, `log.jsonl`, `curves.png` and
            `reconstructions.png` (originals above their reconstructions, held out).
        config: steps, batch size and so on.
        resume: go on from where a run in `out` was stopped; see `train`.
    """
    quantizer = generator.vqvae.quantizer
    own = quantizer.auto_step
    quantizer.auto_step = False  # the loop calls step() itself, after each optimizer step
    try:
        return train(VQVAETask(generator, data, held_out), config, out, resume=resume)
    finally:
        quantizer.auto_step = own


class VQVAETask:
    """See `vqvideo.training.task.Task`."""

    def __init__(self, generator: Generator, data: ClipDataset, held_out: ClipDataset) -> None:
        self.generator = generator
        self.data = data
        self.vqvae = generator.vqvae
        self.format = MEMORY_FORMAT.get(self.vqvae.rank, torch.contiguous_format)
        self.model: nn.Module = self.vqvae.to(memory_format=self.format)
        self.held_out = _some_of(held_out)
        self.num_codes = 0  # of the last evaluation, of each codebook

    def before_step(self, batches: list[Sample]) -> None:
        whole = torch.cat([self._like_weights(batch["x"]) for batch in batches])
        self.vqvae.likelihood.observe(whole)

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self._like_weights(batch["x"])
        loss = self.vqvae.loss(x, model(x), observe=False)
        figures = {
            "psnr_db": psnr_db(loss.mode, x),
            "perplexity": loss.quantized.perplexity.item(),
        }
        return loss.total, figures

    def after_step(self) -> None:
        self.vqvae.quantizer.step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        loss, squared = 0.0, 0.0
        quantizer = self.vqvae.quantizer
        counts = torch.zeros(quantizer.num_codebooks, quantizer.codebook_size, dtype=torch.long)
        with evaluating(self.vqvae):
            for batch in self.held_out.split(8):
                x = self._like_weights(batch)
                found = self.vqvae.loss(x)
                loss += found.total.item() * len(x)
                squared += (found.mode - x).square().sum().item()
                codes = found.quantized.codes.reshape(-1, quantizer.num_codebooks).T
                counts += torch.stack([code_histogram(c, counts.shape[1]) for c in codes]).cpu()
        self.num_codes = int(counts[0].sum())
        return {
            "loss": loss / len(self.held_out),
            "psnr_db": psnr_db_of_mse(squared / self.held_out.numel()),
            "usage": usage(counts),
            "perplexity": torch.stack([perplexity(each) for each in counts]).mean().item(),
        }

    def warnings(self, figures: dict[str, float], epochs: float) -> dict[str, str]:
        size, number = self.vqvae.quantizer.codebook_size, len(self.data)
        low, high = self.held_out.min().item(), self.held_out.max().item()
        found = {}
        if low < -1.001 or high > 1.001 or low >= 0:
            found["range"] = (
                f"data lies in [{low:.3g}, {high:.3g}], models are made for [-1, 1]; scale it, as "
                f"vqvideo.media.from_uint8 does with bytes"
            )
        if number < FEW:
            found["few clips"] = (
                f"{number} clips to train on are few, they will be learnt by heart; give more "
                f"data, or a smaller clip step"
            )
        is_judged = epochs >= 1 and self.num_codes >= CODES_PER_ENTRY * size
        if is_judged and (figures["usage"] < 0.1 or figures["perplexity"] < 0.05 * size):
            found["collapse"] = (
                f"the codebook collapses: {figures['usage'] * size:.0f} of {size} entries are "
                f"used, the perplexity is {figures['perplexity']:.1f}; a smaller codebook_size, a "
                f"higher revive_below or start=kmeans help, and `vqvideo doctor` says more"
            )
        return found

    def show(self, folder: Path) -> None:
        if self.vqvae.rank > 1:
            x = self._like_weights(self.held_out[:2])
            again = self.vqvae.decode(self.vqvae.encode(x))
            strips = torch.stack([x, again], dim=1).flatten(0, 1)
            frames = strips if self.vqvae.rank == 3 else strips[:, :, None]
            write_contact_sheet(folder / "reconstructions.png", frames.cpu(), overwrite=True)

    def save(self, folder: Path) -> None:
        first_stage = Generator(self.vqvae, None, self.generator.config)
        save(first_stage, folder, overwrite=True)

    def _like_weights(self, x: Tensor) -> Tensor:
        """Data where the weights are, laid out in memory as they are."""
        device = next(self.vqvae.parameters()).device
        return x.to(device).contiguous(memory_format=self.format)


def _some_of(data: ClipDataset) -> Tensor:
    """Up to `HELD_OUT` windows spread evenly over a data set: `[n, c, *axes]`."""
    number = min(HELD_OUT, len(data))
    return torch.stack([data[i * len(data) // number]["x"] for i in range(number)])
