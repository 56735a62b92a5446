"""What every quantizer is: vectors in, codes and the vectors they stand for out.

A quantizer sees only vectors. It knows no rank, no modality and no path, which is why one
serves audio, images and video alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.registry import Registry


class NotFiniteError(ValueError):
    """NaN or infinity where a quantizer needs numbers; the message says where."""


class Quantized(NamedTuple):
    """What a quantizer returns, in training and in evaluation alike.

    Attributes:
        z_q: `[b, z_channels, *grid]`, what the codes stand for; its gradient passes to z_e.
        codes: int64 `[b, *grid]`, or `[b, *grid, s]` with several codebooks.
        commitment_loss: scalar, mean of (z_e - sg[e])^2, third term of eq. 3 before beta; zero
            where there is no codebook to commit to.
        codebook_loss: scalar, mean of (sg[z_e] - e)^2, second term of eq. 3; zero where the
            codebook is not trained by gradient.
        perplexity: scalar in [1, K], of this batch; with several codebooks their mean.
    """

    z_q: Tensor
    codes: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor
    perplexity: Tensor


class Quantizer(nn.Module, ABC):
    """Interface of all quantizers; `vqvideo.testing.check_quantizer` holds its laws.

    A subclass implements `quantize` and `dequantize`, and `step` if it has a codebook that moves.

    Attributes:
        z_channels: channels of z_e and z_q.
        codebook_size: K, entries per codebook; codes lie in [0, K).
        num_codebooks: s; with s > 1 codes carry one more, last axis.
        plain_lookup: whether z_q is the entry nearest to z_e and nothing else: then the gradient
            passes unchanged and the losses are those of eq. 3 to the letter.
        auto_step: whether a training forward calls `step()` itself, for people with a loop of
            their own. A loop that accumulates gradients sets it to False and calls `step()`
            after each optimizer step.
    """

    z_channels: int
    codebook_size: int
    num_codebooks: int = 1
    plain_lookup: bool = False
    auto_step: bool = True

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize `z_e` `[b, z_channels, *grid]`, in float32 under any autocast.

        Args:
            z_e: vectors along axis 1; any rank, any grid, an empty batch too.
            mask: bool `[b, *grid]`; positions where it is false count in no statistic and in no
                loss, and may hold anything. Their codes are to be ignored.

        Returns:
            `Quantized`; z_q has the type of z_e, and is float32 under autocast.

        Raises:
            NotFiniteError: z_e holds NaN or infinity; the message says where first.
            ValueError: another shape or type than the above.
        """
        self._check(z_e, mask)
        device = z_e.device.type
        z_type = torch.float32 if torch.is_autocast_enabled(device) else z_e.dtype
        with torch.autocast(device, enabled=False):
            wide = z_e if z_e.dtype == torch.float64 else z_e.float()
            quantized = self.quantize(wide, mask)
            if self.training and self.auto_step:
                self.step()
        return quantized._replace(z_q=quantized.z_q.to(z_type))

    @abstractmethod
    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """What `forward` does once z_e is known to be finite, of the right shape and wide.

        In training it gathers statistics, and moves nothing.
        """

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """What `decode` does once the codes are known to be integers in [0, K): z_q as wide as
        `quantize` makes it.
        """

    def decode(self, codes: Tensor) -> Tensor:
        """z_q `[b, z_channels, *grid]` of codes; to the bit what `forward` gave with them.

        Raises:
            ValueError: codes are no integers in [0, K).
        """
        self._check_codes(codes)
        device = codes.device.type
        with torch.autocast(device, enabled=False):
            z_q = self.dequantize(codes.long())
        return z_q if torch.is_autocast_enabled(device) else z_q.to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: float32 unless the model was brought to another type."""
        tensors = [*self.parameters(), *self.buffers()]
        return next((each.dtype for each in tensors if each.is_floating_point()), torch.float32)

    @property
    def wide(self) -> torch.dtype:
        """What is calculated in: float32, or float64 in a float64 model."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def step(self) -> None:
        """Move the codebook by all that `forward` gathered in training, then forget it.

        Here it does nothing, as is right where there is no codebook.
        """

    @property
    def warming_up(self) -> bool:
        """Whether z_e still passes unquantized in training, the codebook not yet started."""
        return False

    def _check(self, z_e: Tensor, mask: Tensor | None) -> None:
        if z_e.ndim < 3 or z_e.shape[1] != self.z_channels:
            raise ValueError(
                f"z_e must be [batch, z_channels={self.z_channels}, *grid], got {list(z_e.shape)}"
            )
        if not z_e.is_floating_point():
            raise ValueError(f"z_e must be floats, got {z_e.dtype}")
        grid = [z_e.shape[0], *z_e.shape[2:]]
        if mask is not None and (mask.dtype != torch.bool or list(mask.shape) != grid):
            raise ValueError(f"mask must be bool {grid}, got {mask.dtype} {list(mask.shape)}")
        if not torch.isfinite(z_e.detach().sum(dtype=torch.float32)):  # no NaN hides in a sum
            lost = ~torch.isfinite(z_e.detach())
            bad = torch.nonzero(lost if mask is None else lost & mask[:, None])
            if len(bad):
                raise NotFiniteError(
                    f"z_e holds {len(bad)} values that are NaN or infinite, "
                    f"the first at [batch, channel, *grid] = {bad[0].tolist()}"
                )

    def _check_codes(self, codes: Tensor) -> None:
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise ValueError(f"codes must be integers, got {codes.dtype}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise ValueError(
                f"codes must lie in [0, {self.codebook_size}), "
                f"got values from {int(codes.min())} to {int(codes.max())}"
            )


QUANTIZERS: Registry[Quantizer] = Registry("quantizer", Quantizer)
