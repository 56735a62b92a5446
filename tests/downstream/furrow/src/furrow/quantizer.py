"""The `sign` quantizer: one bit per channel, and no codebook to look after."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers import Quantized, Quantizer


class SignQuantizer(Quantizer):
    """Each channel becomes -1 or 1 (Yu et al. 2023, arXiv 2310.05737, without their entropy term).

    The codes are the signs read as a binary number, so z_q is the nearest corner of a cube.

    Args:
        num_bits: channels of z_e; there are 2^num_bits codes.

    >>> quantizer = SignQuantizer(num_bits=2).eval()
    >>> quantizer(torch.tensor([[[0.3], [-7.0]]])).codes.tolist()
    [[1]]
    """

    is_nearest_neighbor = True

    def __init__(self, *, num_bits: int = 8) -> None:
        super().__init__()
        self.z_channels, self.codebook_size = num_bits, 2**num_bits
        self.register_buffer("places", 2 ** torch.arange(num_bits), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)  # has the model's type

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        codes = ((z_e.movedim(1, -1) > 0) * self.places).sum(dim=-1)
        z_q = self.dequantize(codes)
        errors = (z_e - z_q).square().movedim(1, -1)
        used = codes
        if mask is not None:
            errors, used = errors[mask], codes[mask]
        return Quantized(
            z_q=z_q + (z_e - z_e.detach()),  # adds nothing, and hands the gradient on
            codes=codes,
            commitment_loss=errors.sum() / max(errors.numel(), 1),
            codebook_loss=z_e.new_zeros(()),
            perplexity=perplexity(code_histogram(used, self.codebook_size)),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        bits = codes[..., None] // self.places % 2
        return (2 * bits - 1).movedim(-1, 1).to(self.compute_dtype)
