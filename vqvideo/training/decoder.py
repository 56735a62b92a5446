"""Another decoder for codes that stay what they are: encoder and codebook no longer change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample
from vqvideo.generator import Generator
from vqvideo.modes import evaluating
from vqvideo.quantizers import Quantized
from vqvideo.training.loop import train
from vqvideo.training.task import TrainingConfig
from vqvideo.training.vqvae import VQVAETask
from vqvideo.vqvae import VQVAE, VQVAEOutput


def train_decoder(
    generator: Generator,
    data: ClipDataset,
    held_out: ClipDataset,
    out: str | Path,
    config: TrainingConfig,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train decoder and likelihood of `generator.vqvae`; its codes do not change by a bit.

    So priors over these codes, code files, and what one knows about the codes stay valid, and a
    decoder that is slow to learn (a WaveNet) need not wait for codes that mean something. The
    arguments are those of `train_vqvae`.
    """
    return train(DecoderTask(generator, data, held_out), config, out, resume=resume)


class Decoding(nn.Module):
    """What is trained of a VQ-VAE: all that comes after its codes."""

    def __init__(self, vqvae: VQVAE) -> None:
        super().__init__()
        self.decoder, self.likelihood = vqvae.decoder, vqvae.likelihood
        self.cond_embedding = vqvae.cond_embedding

    def forward(self, z_q: Tensor, cond: Cond | None = None) -> Tensor:
        return self.decoder(self.cond_embedding(z_q, cond))  # type: ignore[no-any-return]


class DecoderTask(VQVAETask):
    """See `vqvideo.training.task.Task`: that of the first stage, its codes given."""

    def __init__(self, generator: Generator, data: ClipDataset, held_out: ClipDataset) -> None:
        super().__init__(generator, data, held_out)
        self.model = Decoding(self.vqvae)
        self.fingerprint = self.vqvae.fingerprint()

    @property
    def identity(self) -> dict[str, Any]:
        return {**super().identity, "codes": self.fingerprint}

    def loss(self, model: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, float]]:
        x = self.like_weights(batch["x"])
        quantized = self._quantized(x)
        output = VQVAEOutput(model(quantized.z_q, self.told(batch)), quantized)
        loss = self.vqvae.loss(x, output, observe=False)
        return loss.total, self.figures(x, loss)

    def after_step(self) -> None:
        """The codebook stays as it is."""

    def warnings(self, figures: dict[str, float], epochs: float) -> dict[str, str]:
        found = super().warnings(figures, epochs)
        return {name: said for name, said in found.items() if name != "collapse"}

    def like_weights(self, x: Tensor) -> Tensor:
        self.vqvae.to(next(self.vqvae.decoder.parameters()).device)  # where the loop has put that
        return super().like_weights(x)

    @torch.no_grad()
    def _quantized(self, x: Tensor) -> Quantized:
        # In float32 whatever the networks are trained in: these are the codes that others see too.
        full = torch.autocast(x.device.type, enabled=False)
        with full, evaluating(self.vqvae.encoder), evaluating(self.vqvae.quantizer):
            return self.vqvae.quantizer(self.vqvae.z_e(x))  # type: ignore[no-any-return]
