"""A quantizer for vqvideo: the nearest of entries that never move."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers import Quantized, Quantizer, nearest_codes


class MyQuantizer(Quantizer):
    """Each vector becomes the nearest of `codebook_size` entries, drawn once.

    Args:
        codebook_size: K.
        code_dim: channels of z_e and of an entry.
    """

    plain_lookup = True  # the nearest entry and nothing else; `check_quantizer` then checks more
    codebook: Tensor

    def __init__(self, *, codebook_size: int = 256, code_dim: int = 8) -> None:
        super().__init__()
        self.codebook_size, self.z_channels = codebook_size, code_dim
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim, generator=draw))

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """z_q and codes of z_e `[b, code_dim, *grid]`, of any rank."""
        rows = z_e.movedim(1, -1)  # [b, *grid, code_dim]
        codes = nearest_codes(rows.detach().reshape(-1, self.z_channels), self.codebook)
        codes = codes.view(rows.shape[:-1])
        z_q = self.dequantize(codes)
        errors, used = (z_e - z_q).square().movedim(1, -1), codes
        if mask is not None:
            errors, used = errors[mask], codes[mask]
        return Quantized(
            z_q=z_q + (z_e - z_e.detach()),  # adds nothing, and hands the gradient on to z_e
            codes=codes,
            commitment_loss=errors.sum() / max(errors.numel(), 1),
            codebook_loss=z_e.new_zeros(()),
            perplexity=perplexity(code_histogram(used, self.codebook_size)),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """The entries that codes stand for."""
        return self.codebook.to(self.wide)[codes].movedim(-1, 1)
