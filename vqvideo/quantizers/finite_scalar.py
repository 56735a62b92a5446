"""The `finite-scalar` quantizer: no codebook, each channel is rounded to a few levels.

Mentzer et al. 2023, Finite Scalar Quantization (arXiv 2309.15505). There is no codebook to
initialize, revive or synchronize between processes.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers.base import QUANTIZERS, Quantized, Quantizer
from vqvideo.quantizers.straight_through import StraightThrough

BOUND_MARGIN = 1e-3  # the outermost levels are reached at finite z_e


@QUANTIZERS.register("finite-scalar")
class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantizer: bounds each channel by tanh and rounds it to one of its levels.

    z_q lies in [-1, 1]; the codes are the mixed-radix numbers of the levels, with the first
    channel as the least significant digit. The rounding uses a straight-through gradient.

    Args:
        levels: number of levels of each channel, each at least 2. Their product is K, below 2^63;
            the paper recommends at least 5 for most channels: (8, 5, 5, 5) for about 2^10,
            (8, 8, 8, 5, 5, 5) for about 2^16. With 2 levels the boundary lies at z_e = -3.8,
            far from the initial outputs of an encoder; use 3 instead.

    >>> quantizer = FiniteScalarQuantizer(levels=(3, 5)).eval()
    >>> quantizer.codebook_size, quantizer.z_channels
    (15, 2)
    >>> quantizer(torch.tensor([[[9.0], [-9.0]]])).z_q.flatten().tolist()
    [1.0, -1.0]
    """

    levels: Tensor
    basis: Tensor
    dtype_reference: Tensor

    def __init__(self, *, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        if not levels or not all(type(level) is int and level >= 2 for level in levels):
            raise ValueError(
                f"levels must be one or more integers >= 2, got {reprlib.repr(levels)}"
            )
        *basis, size = itertools.accumulate(levels, _multiply_int64, initial=1)
        self.z_channels, self.codebook_size = len(levels), size
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)
        # Converted with the model, so that `dtype` returns the model's dtype.
        self.register_buffer("dtype_reference", torch.ones(()), persistent=False)

    def extra_repr(self) -> str:
        return f"levels={tuple(self.levels.tolist())}"

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        rows = z_e.movedim(1, -1)
        # With an even number of levels, 0 lies between two of them: shift it to the upper one.
        half = (self.levels - 1) * (1 + BOUND_MARGIN) / 2
        offset = (self.levels % 2 == 0) * 0.5
        bounded = torch.tanh(rows + torch.atanh(offset / half)) * half - offset
        level = bounded.detach().round().long() + self.levels // 2
        level = level.clamp(min=torch.zeros_like(self.levels), max=self.levels - 1)
        codes = (level * self.basis).sum(dim=-1)
        z_q = StraightThrough.apply(bounded / (self.levels // 2), self._levels_to_values(level))
        counts = code_histogram(codes if mask is None else codes[mask], self.codebook_size)
        zero = torch.zeros((), device=z_e.device)
        return Quantized(z_q.movedim(-1, 1), codes, zero, zero, perplexity(counts))

    def dequantize(self, codes: Tensor) -> Tensor:
        level = codes[..., None] // self.basis % self.levels
        return self._levels_to_values(level).movedim(-1, 1)

    def _levels_to_values(self, level: Tensor) -> Tensor:
        half_width = (self.levels // 2).to(self.compute_dtype)
        return (level - half_width) / half_width


def _multiply_int64(size: int, level: int) -> int:
    """Return a product that fits int64, as codes do; the first that does not ends the build."""
    if size * level >= 1 << 63:
        raise ValueError(
            f"the product of levels is K, which must be below 2^63 as codes are int64, got "
            f"{size} x {level} or more"
        )
    return size * level
