"""A quantizer for vqvideo: nearest neighbour in a fixed random codebook."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers import Quantized, Quantizer, nearest_codes


class MyQuantizer(Quantizer):
    """Map each vector to the nearest of `codebook_size` fixed random entries.

    Args:
        codebook_size: K.
        code_dim: channels of z_e and of an entry.
    """

    is_nearest_neighbor = True  # enables more laws in `check_quantizer`
    codebook: Tensor

    def __init__(self, *, codebook_size: int = 256, code_dim: int = 8) -> None:
        super().__init__()
        self.codebook_size, self.z_channels = codebook_size, code_dim
        rng = torch.Generator().manual_seed(0)
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim, generator=rng))

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """Quantize z_e `[b, code_dim, *grid]`, of any rank."""
        rows = z_e.movedim(1, -1)  # [b, *grid, code_dim]
        codes = nearest_codes(rows.detach().reshape(-1, self.z_channels), self.codebook)
        codes = codes.view(rows.shape[:-1])
        z_q = self.dequantize(codes)
        errors, used_codes = (z_e - z_q).square().movedim(1, -1), codes
        if mask is not None:
            errors, used_codes = errors[mask], codes[mask]
        return Quantized(
            z_q=z_q + (z_e - z_e.detach()),  # straight-through: adds 0, passes the gradient to z_e
            codes=codes,
            commitment_loss=errors.sum() / max(errors.numel(), 1),
            codebook_loss=z_e.new_zeros(()),
            perplexity=perplexity(code_histogram(used_codes, self.codebook_size)),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """Return the entries of codes."""
        return self.codebook.to(self.compute_dtype)[codes].movedim(-1, 1)
