"""First stage: encoder, codebook and decoder of a VQ-VAE with a uniform prior (eq. 3)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from vqvideo.checkpoint import save
from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample, cond_from_batch
from vqvideo.data.items import evenly_spaced
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.metrics import code_histogram, codebook_usage, perplexity, psnr_db, psnr_db_from_mse
from vqvideo.modes import eval_mode
from vqvideo.quantizers import manual_updates
from vqvideo.training.loop import train
from vqvideo.training.previews import (
    NUM_PREVIEWS,
    get_num_previews,
    write_audio_previews,
    write_video_previews,
)
from vqvideo.training.task import TrainingConfig
from vqvideo.vqvae import VQVAELoss

MAX_VAL_ITEMS = 64  # items: enough for stable metrics, few enough to be fast
MAX_PREVIEW_SAMPLES = 4096  # audio samples in previews of an autoregressive decoder
MIN_CLIPS = 50  # fewer are overfitted by a model of millions of weights
MIN_CODES_PER_ENTRY = 10  # with fewer codes the usage is not meaningful
MEMORY_FORMATS = {  # fastest layouts of convolutions on a CPU, by rank
    2: torch.channels_last,
    3: torch.channels_last_3d,
}


def train_vqvae(
    generator: Generator,
    data: ClipDataset,
    val_data: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train `generator.vqvae` on clips and return the last validation metrics.

    Args:
        generator: the model; its prior is neither trained nor saved.
        data: training data.
        val_data: validation data.
        out: the run's folder; receives the files of `train`, `reconstructions.png`, and
            `reconstructions.mp4` or `.wav` (validation clips above or before their
            reconstructions).
        config: steps, batch size and so on.
        resume: resume a stopped run in `out`; see `train`.
    """
    with manual_updates(generator.vqvae.quantizer):
        return train(VQVAETask(generator, data, val_data), config, out, resume=resume)


class VQVAETask:
    """The `vqvideo.training.task.Task` of the first stage."""

    def __init__(self, generator: Generator, data: ClipDataset, val_data: ClipDataset) -> None:
        self.generator = generator
        self.data = data
        self.vqvae = generator.vqvae
        self.memory_format = MEMORY_FORMATS.get(self.vqvae.rank, torch.contiguous_format)
        self.model: nn.Module = self.vqvae
        for tensor in (*self.vqvae.parameters(), *self.vqvae.buffers()):
            # By the rank of each kernel: a frame encoder of a video model has 2D kernels.
            if tensor.ndim - 2 in MEMORY_FORMATS:
                tensor.data = tensor.to(memory_format=MEMORY_FORMATS[tensor.ndim - 2])
        self.val_indices = evenly_spaced(range(len(val_data)), MAX_VAL_ITEMS, from_start=True)
        self.val_samples: Sample = default_collate([val_data[index] for index in self.val_indices])
        self.val_x = self.val_samples["x"]
        self.histograms = torch.zeros(1, 1)  # code counts of the last evaluation, `[s, K]`

    @property
    def identity(self) -> dict[str, Any]:
        config = self.generator.config
        options = {} if config is None else config.to_dict()
        return {name: value for name, value in options.items() if name != "prior"}

    def before_step(self, batches: list[Sample]) -> None:
        x = torch.cat([self.prepare_input(batch["x"]) for batch in batches])
        self.vqvae.likelihood.observe(x)

    def compute_loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.prepare_input(batch["x"])
        loss = self.vqvae.loss(x, model(x, self.get_decoder_cond(batch)), observe=False)
        return loss.total, self.compute_metrics(x, loss)

    def compute_metrics(self, x: Tensor, loss: VQVAELoss) -> dict[str, float]:
        """Compute the batch metrics of the progress bar; the PSNR is that of the first items."""
        usage = codebook_usage(self._compute_histograms(loss.quantized.codes))
        return {
            **self._compute_psnr(x[:NUM_PREVIEWS], loss.parameters[:NUM_PREVIEWS]),
            "usage": usage,
        }

    def _compute_psnr(self, x: Tensor, parameters: Tensor) -> dict[str, float]:
        if not self._has_psnr:
            return {}
        return {"psnr_db": psnr_db(self.vqvae.likelihood.mode(parameters), x)}

    def after_step(self) -> None:
        self.vqvae.quantizer.update_codebook()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        likelihood, num_items = self.vqvae.likelihood, len(self.val_x)
        total, nats, squared_error, counts = 0.0, 0.0, 0.0, torch.tensor(0)
        with eval_mode(self.vqvae):
            for start in range(0, num_items, 8):
                batch = {name: each[start : start + 8] for name, each in self.val_samples.items()}
                x = self.prepare_input(batch["x"])
                loss = self.vqvae.loss(x, cond=self.get_decoder_cond(batch))
                total += loss.total.item() * len(x)
                nats += loss.reconstruction_nats.item() * len(x)
                if self._has_psnr:
                    mode = likelihood.mode(loss.parameters)
                    squared_error += (mode - x).square().sum().item()
                counts = counts + self._compute_histograms(loss.quantized.codes)
        self.histograms = counts
        metrics = {"loss": total / num_items}
        if self._has_psnr:
            metrics["psnr_db"] = psnr_db_from_mse(squared_error / self.val_x.numel())
        if likelihood.is_discrete:
            dims, codes = self.val_x[0].numel(), int(counts.sum()) / num_items
            nats = nats / num_items + codes * math.log(self.vqvae.quantizer.codebook_size)
            metrics["bits_per_dim"] = nats / (dims * math.log(2))
        return {
            **metrics,
            "usage": codebook_usage(counts),
            "perplexity": torch.stack([perplexity(each) for each in counts]).mean().item(),
        }

    def collect_warnings(self, metrics: dict[str, float], epochs: float) -> dict[str, str]:
        size, num_clips = self.vqvae.quantizer.codebook_size, len(self.data)
        low, high = self.val_x.min().item(), self.val_x.max().item()
        warnings = {}
        if low < -1.001 or high > 1.001 or low >= 0:
            warnings["range"] = (
                f"data lies in [{low:.3g}, {high:.3g}], but models expect [-1, 1]; scale it, as "
                f"vqvideo.media.from_uint8 does for uint8 data"
            )
        if num_clips < MIN_CLIPS:
            warnings["few clips"] = (
                f"{num_clips} training clips are few, and the model will overfit; provide more "
                f"data or a smaller clip stride"
            )
        is_reliable = epochs >= 1 and self.histograms[0].sum() >= MIN_CODES_PER_ENTRY * size
        if is_reliable and (metrics["usage"] < 0.1 or metrics["perplexity"] < 0.05 * size):
            warnings["collapse"] = (
                f"the codebook collapses: {metrics['usage'] * size:.0f} of {size} entries are "
                f"used, the perplexity is {metrics['perplexity']:.1f}; use a smaller "
                f"codebook_size, a higher dead_code_threshold or init=kmeans, and see "
                f"`vqvideo doctor`"
            )
        return warnings

    def write_previews(self, folder: Path) -> dict[str, Tensor]:
        num_previews = get_num_previews(self.vqvae.likelihood)
        x = self.prepare_input(self.val_x[:num_previews])
        if self.vqvae.rank == 1 and self.vqvae.likelihood.is_autoregressive:
            stride = self.vqvae.downsampling[0]
            x = x[:, :, : -(-min(MAX_PREVIEW_SAMPLES, x.shape[2]) // stride) * stride]
        cond = self.get_decoder_cond(
            {name: value[:num_previews] for name, value in self.val_samples.items()}
        )
        reconstruction = self.vqvae.decode(self.vqvae.encode(x), cond)
        write = write_audio_previews if self.vqvae.rank == 1 else write_video_previews
        return write(folder, "reconstructions", [x, reconstruction], self.generator.config.rate)

    def save(self, folder: Path) -> None:
        first_stage = Generator(self.vqvae, None, self.generator.config)
        save(first_stage, folder, overwrite=True)

    def get_decoder_cond(self, batch: Sample) -> Cond | None:
        """Return the decoder's condition of a batch, or None."""
        return cond_from_batch(batch, self.vqvae.cond.keys, get_device(self.vqvae))

    @property
    def _has_psnr(self) -> bool:
        """Return whether the PSNR of the mode is meaningful and needs a single pass."""
        likelihood = self.vqvae.likelihood
        return likelihood.is_normalized and not likelihood.is_autoregressive

    def _compute_histograms(self, codes: Tensor) -> Tensor:
        """Count how often each code occurs, `[s, K]`, one row per codebook."""
        quantizer = self.vqvae.quantizer
        rows = codes.reshape(-1, quantizer.num_codebooks).T
        return torch.stack([code_histogram(row, quantizer.codebook_size) for row in rows]).cpu()

    def prepare_input(self, x: Tensor) -> Tensor:
        """Move data to the device and memory format of the weights."""
        device = get_device(self.vqvae)
        return x.to(device).contiguous(memory_format=self.memory_format)
