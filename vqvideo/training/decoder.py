"""Training of a new decoder for fixed codes: encoder and codebook are frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.modes import eval_mode
from vqvideo.quantizers import Quantized
from vqvideo.training.loop import train
from vqvideo.training.task import TrainingConfig
from vqvideo.training.vqvae import VQVAETask
from vqvideo.vqvae import VQVAE, VQVAEOutput


def train_decoder(
    generator: Generator,
    data: ClipDataset,
    val_data: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train the decoder and likelihood of `generator.vqvae`; its codes do not change by a bit.

    Priors over these codes, code files and analyses of the codes therefore stay valid, and a
    decoder that learns slowly (a WaveNet) starts from meaningful codes. The arguments are the same
    as for `train_vqvae`.
    """
    return train(DecoderTask(generator, data, val_data), config, out, resume=resume)


class DecoderModule(nn.Module):
    """The trained part of a VQ-VAE: everything after its codes."""

    def __init__(self, vqvae: VQVAE) -> None:
        super().__init__()
        self.decoder, self.likelihood = vqvae.decoder, vqvae.likelihood
        self.cond_embedding = vqvae.cond_embedding

    def forward(self, z_q: Tensor, cond: Cond | None = None) -> Tensor:
        return self.decoder(self.cond_embedding(z_q, cond))  # type: ignore[no-any-return]


class DecoderTask(VQVAETask):
    """The `vqvideo.training.task.Task` of a first stage whose codes are fixed."""

    def __init__(self, generator: Generator, data: ClipDataset, val_data: ClipDataset) -> None:
        super().__init__(generator, data, val_data)
        self.model = DecoderModule(self.vqvae)
        self.fingerprint = self.vqvae.fingerprint()

    @property
    def identity(self) -> dict[str, Any]:
        return {**super().identity, "codes": self.fingerprint}

    def compute_loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.prepare_input(batch["x"])
        quantized = self._quantize(x)
        output = VQVAEOutput(model(quantized.z_q, self.get_decoder_cond(batch)), quantized)
        loss = self.vqvae.loss(x, output, observe=False)
        return loss.total, self.compute_metrics(x, loss)

    def after_step(self) -> None:
        """Do nothing: the codebook is frozen."""

    def collect_warnings(self, metrics: dict[str, float], epochs: float) -> dict[str, str]:
        warnings = super().collect_warnings(metrics, epochs)
        return {name: message for name, message in warnings.items() if name != "collapse"}

    def prepare_input(self, x: Tensor) -> Tensor:
        # The loop moves the decoder only; the frozen encoder and quantizer must follow it.
        self.vqvae.to(get_device(self.vqvae.decoder))
        return super().prepare_input(x)

    @torch.no_grad()
    def _quantize(self, x: Tensor) -> Quantized:
        # Always in float32, so that training and inference use the same codes.
        float32 = torch.autocast(x.device.type, enabled=False)
        with float32, eval_mode(self.vqvae.encoder), eval_mode(self.vqvae.quantizer):
            return self.vqvae.quantizer(self.vqvae.compute_z_e(x))  # type: ignore[no-any-return]
