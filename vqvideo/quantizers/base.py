"""The contract of quantizers, which map vectors to codes and quantized vectors.

A quantizer operates only on vectors and does not depend on rank or modality, so the same quantizer
serves audio, images and video.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.arguments import check_codes, check_tensor, to_int64
from vqvideo.device import get_dtype
from vqvideo.registry import Registry


class Quantized(NamedTuple):
    """Output of a quantizer, the same in training and in evaluation.

    Attributes:
        z_q: `[b, z_channels, *grid]`, the quantized vectors; their gradient passes to z_e.
        codes: int64 `[b, *grid]`, or `[b, *grid, s]` with several codebooks.
        commitment_loss: scalar, mean of (z_e - sg[e])^2, the third term of eq. 3 without beta; zero
            if there is no codebook to commit to.
        codebook_loss: scalar, mean of (sg[z_e] - e)^2, the second term of eq. 3; zero if the
            codebook is not trained by gradient.
        perplexity: scalar in [1, K], the perplexity of the codes of this batch, averaged over the
            codebooks if there are several.
    """

    z_q: Tensor
    codes: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor
    perplexity: Tensor


class Quantizer(nn.Module, ABC):
    """Base class of all quantizers; `vqvideo.testing.check_quantizer` checks a subclass.

    A subclass sets the attributes and implements `quantize` and `dequantize`. If its codebook is
    updated outside the optimizer, it also implements `update_codebook` and `is_warming_up`.

    Attributes:
        z_channels: channels of z_e and z_q.
        codebook_size: K, entries per codebook; codes lie in [0, K).
        num_codebooks: s; with s > 1 codes have an additional last axis.
        is_nearest_neighbor: whether z_q is exactly the entry nearest to z_e; if so, the gradient
            passes unchanged and the losses are exactly the terms of eq. 3.
        has_projection: whether z_e is multiplied by a matrix before the search.
        auto_update: whether `forward` in training mode calls `update_codebook()` itself, as a
            custom training loop expects. A loop that accumulates gradients turns it off
            (`manual_updates`) and calls `update_codebook()` after each optimizer step.
    """

    z_channels: int
    codebook_size: int
    num_codebooks: int = 1
    is_nearest_neighbor: bool = False
    has_projection: bool = False
    auto_update: bool = True

    @abstractmethod
    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """Quantize a validated z_e: finite, of the right shape, in float32 or float64.

        In training, accumulate statistics, but do not update the codebook.
        """

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Return z_q of validated codes, int64 in [0, K), in `compute_dtype`."""

    def update_codebook(self) -> None:
        """Update the codebook with the statistics of the training steps, then reset them.

        The base class has no codebook and does nothing.
        """

    @property
    def is_warming_up(self) -> bool:
        """Return whether z_e still passes unquantized, before the codebook is initialized."""
        return False

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize `z_e` `[b, z_channels, *grid]`, in float32 under any autocast.

        Args:
            z_e: vectors along axis 1, with a grid of any rank and size; the batch may be empty.
            mask: bool `[b, *grid]`; positions where it is False are excluded from all statistics
                and losses, and may contain any value. Ignore their codes.

        Returns:
            `Quantized`; z_q has the dtype of z_e, or float32 under autocast.

        Raises:
            NotFiniteError: z_e contains NaN or infinity; the message gives the first position.
            ValueError: the shape or dtype of z_e or of the mask is wrong.
        """
        self._check_z_e(z_e, mask)
        device = z_e.device.type
        z_type = torch.float32 if torch.is_autocast_enabled(device) else z_e.dtype
        with torch.autocast(device, enabled=False):
            upcast = z_e if z_e.dtype == torch.float64 else z_e.float()
            quantized = self.quantize(upcast, mask)
            if self.training and self.auto_update:
                self.update_codebook()
        return quantized._replace(z_q=quantized.z_q.to(z_type))

    def decode(self, codes: Tensor) -> Tensor:
        """Return z_q `[b, z_channels, *grid]` of codes, bit-identical to that of `forward`.

        Raises:
            ValueError: the codes are not integers in [0, K).
        """
        codes = to_int64("codes", codes)
        check_codes("codes", codes, self.codebook_size)
        device = codes.device.type
        with torch.autocast(device, enabled=False):
            z_q = self.dequantize(codes)
        return z_q if torch.is_autocast_enabled(device) else z_q.to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights: float32 unless the model was converted."""
        return get_dtype(self)

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype of the computation: float32, or float64 in a float64 model."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def _check_z_e(self, z_e: Tensor, mask: Tensor | None) -> None:
        check_tensor("z_e", z_e)
        if z_e.ndim < 3 or z_e.shape[1] != self.z_channels:
            raise ValueError(
                f"z_e must be [batch, z_channels={self.z_channels}, *grid], got {list(z_e.shape)}"
            )
        if not z_e.is_floating_point():
            raise ValueError(f"z_e must have a floating-point dtype, got {z_e.dtype}")
        grid = [z_e.shape[0], *z_e.shape[2:]]
        if mask is not None and (mask.dtype != torch.bool or list(mask.shape) != grid):
            raise ValueError(f"mask must be bool {grid}, got {mask.dtype} {list(mask.shape)}")
        if not torch.isfinite(z_e.detach().sum(dtype=torch.float32)):  # a NaN makes the sum NaN
            is_finite = torch.isfinite(z_e.detach())
            check_finite("z_e", is_finite if mask is None else is_finite | ~mask[:, None], "grid")


QUANTIZERS: Registry[Quantizer] = Registry("quantizer", Quantizer)


@contextmanager
def manual_updates(*quantizers: Quantizer) -> Iterator[None]:
    """Turn `auto_update` off for a loop that calls `update_codebook()` after each optimizer step.

    >>> from vqvideo.quantizers import EMAQuantizer
    >>> quantizer = EMAQuantizer(codebook_size=8, code_dim=4)
    >>> with manual_updates(quantizer):
    ...     quantizer.auto_update
    False
    >>> quantizer.auto_update
    True
    """
    before = [quantizer.auto_update for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.auto_update = False
    try:
        yield
    finally:
        for quantizer, auto_update in zip(quantizers, before, strict=True):
            quantizer.auto_update = auto_update


class NotFiniteError(ValueError):
    """Error raised when z_e contains NaN or infinity; the message gives the first position."""


def check_finite(name: str, is_finite: Tensor, axes: str) -> None:
    """Raise `NotFiniteError` unless `is_finite`, bool `[b, c, *axes]`, is true everywhere."""
    if not is_finite.all():
        positions = torch.nonzero(~is_finite)
        raise NotFiniteError(
            f"{name} holds {len(positions)} values that are NaN or infinite, "
            f"the first at [batch, channel, *{axes}] = {positions[0].tolist()}"
        )
