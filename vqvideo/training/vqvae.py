"""First stage: encoder, codebook and decoder of a VQ-VAE, the prior uniform (eq. 3)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from vqvideo.checkpoint import save
from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample, cond_of
from vqvideo.generator import Generator
from vqvideo.metrics import code_histogram, perplexity, psnr_db, psnr_db_of_mse, usage
from vqvideo.modes import evaluating
from vqvideo.training.loop import train
from vqvideo.training.pictures import SHOWN, num_shown, show_rows, show_sounds
from vqvideo.training.task import TrainingConfig
from vqvideo.vqvae import VQVAELoss

HELD_OUT = 64  # items: enough for a steady figure, few enough to be quick
DRAWN = 4096  # samples of sound that pictures show, where each takes a pass
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
        out: the run's folder; gets what `train` leaves in it, and `reconstructions.png` and
            `.mp4` or `.wav` (originals above or before their reconstructions, held out).
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
        self.model: nn.Module = self.vqvae
        for tensor in (*self.vqvae.parameters(), *self.vqvae.buffers()):
            # Each kernel by its own rank: an encoder of frames has two-dimensional ones.
            if tensor.ndim - 2 in MEMORY_FORMAT:
                tensor.data = tensor.to(memory_format=MEMORY_FORMAT[tensor.ndim - 2])
        number = min(HELD_OUT, len(held_out))
        self.indices = [i * len(held_out) // number for i in range(number)]  # evenly spread
        self.samples: Sample = default_collate([held_out[index] for index in self.indices])
        self.held_out = self.samples["x"]
        self.counts = torch.zeros(1, 1)  # how often each code came in the last evaluation, `[s, K]`

    @property
    def identity(self) -> dict[str, Any]:
        config = self.generator.config
        said = {} if config is None else config.to_dict()
        return {name: value for name, value in said.items() if name != "prior"}

    def before_step(self, batches: list[Sample]) -> None:
        whole = torch.cat([self.like_weights(batch["x"]) for batch in batches])
        self.vqvae.likelihood.observe(whole)

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.like_weights(batch["x"])
        loss = self.vqvae.loss(x, model(x, self.told(batch)), observe=False)
        return loss.total, self.figures(x, loss)

    def figures(self, x: Tensor, loss: VQVAELoss) -> dict[str, float]:
        """What the progress bar shows of a batch, of its first items."""
        used = usage(self._histograms(loss.quantized.codes))
        return {**self._nearness(x[:SHOWN], loss.parameters[:SHOWN]), "usage": used}

    def _nearness(self, x: Tensor, parameters: Tensor) -> dict[str, float]:
        if not self._has_psnr:
            return {}
        return {"psnr_db": psnr_db(self.vqvae.likelihood.mode(parameters), x)}

    def after_step(self) -> None:
        self.vqvae.quantizer.step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        likelihood, number = self.vqvae.likelihood, len(self.held_out)
        loss, nats, squared, counts = 0.0, 0.0, 0.0, torch.tensor(0)
        with evaluating(self.vqvae):
            for start in range(0, number, 8):
                batch = {name: each[start : start + 8] for name, each in self.samples.items()}
                x = self.like_weights(batch["x"])
                found = self.vqvae.loss(x, cond=self.told(batch))
                loss += found.total.item() * len(x)
                nats += found.reconstruction_nats.item() * len(x)
                if self._has_psnr:
                    mode = likelihood.mode(found.parameters)
                    squared += (mode - x).square().sum().item()
                counts = counts + self._histograms(found.quantized.codes)
        self.counts = counts
        figures = {"loss": loss / number}
        if self._has_psnr:
            figures["psnr_db"] = psnr_db_of_mse(squared / self.held_out.numel())
        if likelihood.gives_bits:
            dims, codes = self.held_out[0].numel(), int(counts.sum()) / number
            nats = nats / number + codes * math.log(self.vqvae.quantizer.codebook_size)
            figures["bits_per_dim"] = nats / (dims * math.log(2))
        return {
            **figures,
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
        is_judged = epochs >= 1 and self.counts[0].sum() >= CODES_PER_ENTRY * size
        if is_judged and (figures["usage"] < 0.1 or figures["perplexity"] < 0.05 * size):
            found["collapse"] = (
                f"the codebook collapses: {figures['usage'] * size:.0f} of {size} entries are "
                f"used, the perplexity is {figures['perplexity']:.1f}; a smaller codebook_size, a "
                f"higher revive_below or start=kmeans help, and `vqvideo doctor` says more"
            )
        return found

    def show(self, folder: Path) -> dict[str, Tensor]:
        number = num_shown(self.vqvae.likelihood)
        x = self.like_weights(self.held_out[:number])
        if self.vqvae.rank == 1 and self.vqvae.likelihood.is_autoregressive:
            step = self.vqvae.downsampling[0]  # a pass for each sample
            x = x[:, :, : -(-min(DRAWN, x.shape[2]) // step) * step]
        cond = self.told({name: each[:number] for name, each in self.samples.items()})
        again = self.vqvae.decode(self.vqvae.encode(x), cond)
        show = show_sounds if self.vqvae.rank == 1 else show_rows
        return show(folder, "reconstructions", [x, again], self.generator.config.rate)

    def save(self, folder: Path) -> None:
        first_stage = Generator(self.vqvae, None, self.generator.config)
        save(first_stage, folder, overwrite=True)

    def told(self, batch: Sample) -> Cond | None:
        """What the decoder is told about a batch."""
        return cond_of(batch, self.vqvae.cond.takes, next(self.vqvae.parameters()).device)

    @property
    def _has_psnr(self) -> bool:
        """Not where a mode takes a pass for each value, nor where waves may stand anywhere."""
        likelihood = self.vqvae.likelihood
        return likelihood.is_normalized and not likelihood.is_autoregressive

    def _histograms(self, codes: Tensor) -> Tensor:
        """How often each code occurs, `[s, K]`, one row per codebook."""
        quantizer = self.vqvae.quantizer
        each = codes.reshape(-1, quantizer.num_codebooks).T
        return torch.stack([code_histogram(one, quantizer.codebook_size) for one in each]).cpu()

    def like_weights(self, x: Tensor) -> Tensor:
        """Data where the weights are, laid out in memory as they are."""
        device = next(self.vqvae.parameters()).device
        return x.to(device).contiguous(memory_format=self.format)
