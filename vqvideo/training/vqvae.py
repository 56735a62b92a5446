"""First stage: encoder, codebook and decoder of a VQ-VAE, the prior uniform (eq. 3)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vqvideo.checkpoint import save
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.generator import Generator
from vqvideo.media import write_contact_sheet
from vqvideo.metrics import code_histogram, psnr_db, usage
from vqvideo.training.loop import TrainingConfig, train

HELD_OUT = 64  # items: enough for a steady figure, few enough to be quick
MEMORY_FORMAT = {2: torch.channels_last, 3: torch.channels_last_3d}  # a third faster on a CPU


def train_vqvae(
    generator: Generator,
    data: ClipDataset,
    held_out: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
) -> dict[str, float]:
    """Train `generator.vqvae` on windows of data; returns the last held-out figures.

    Args:
        generator: a model whose prior is not touched and not saved.
        data: to train on.
        held_out: to measure on.
        out: the run's folder; gets `model/`, `log.jsonl`, `curves.png` and
            `reconstructions.png` (originals above their reconstructions, held out).
        config: steps, batch size and so on.
    """
    return train(VQVAETask(generator, data, held_out), config, out)


class VQVAETask:
    """See `vqvideo.training.loop.Task`."""

    def __init__(self, generator: Generator, data: ClipDataset, held_out: ClipDataset) -> None:
        self.generator = generator
        self.data = data
        self.vqvae = generator.vqvae
        self.format = MEMORY_FORMAT.get(self.vqvae.rank, torch.contiguous_format)
        self.model: nn.Module = self.vqvae.to(memory_format=self.format)
        self.held_out = _some_of(held_out)
        self.vqvae.quantizer.auto_step = False  # the loop calls step() itself

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = batch["x"].contiguous(memory_format=self.format)
        loss = self.vqvae.loss(x, model(x))
        figures = {
            "psnr_db": psnr_db(loss.mode, x),
            "perplexity": loss.quantized.perplexity.item(),
        }
        return loss.total, figures

    def after_step(self) -> None:
        self.vqvae.quantizer.step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        squared, counts = 0.0, torch.zeros(self.vqvae.quantizer.codebook_size, dtype=torch.long)
        for x in self.held_out.split(8):
            codes = self.vqvae.encode(x)
            squared += (self.vqvae.decode(codes) - x).square().sum().item()
            counts += code_histogram(codes, len(counts))
        mse = squared / self.held_out.numel()
        return {
            "psnr_db": psnr_db(torch.zeros(1), torch.tensor([mse**0.5])),
            "usage": usage(counts),
        }

    def show(self, folder: Path, step: int) -> None:
        if self.vqvae.rank > 1:
            x = self.held_out[:2]
            again = self.vqvae.decode(self.vqvae.encode(x))
            strips = torch.stack([x, again], dim=1).flatten(0, 1)
            frames = strips if self.vqvae.rank == 3 else strips[:, :, None]
            write_contact_sheet(folder / "reconstructions.png", frames, overwrite=True)

    def save(self, folder: Path) -> None:
        first_stage = Generator(self.vqvae, None, self.generator.config)
        save(first_stage, folder, overwrite=True)


def _some_of(data: ClipDataset) -> Tensor:
    """Up to `HELD_OUT` windows spread evenly over a data set: `[n, c, *axes]`."""
    number = min(HELD_OUT, len(data))
    return torch.stack([data[i * len(data) // number]["x"] for i in range(number)])
