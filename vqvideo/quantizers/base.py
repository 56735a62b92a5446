"""What every quantizer is: vectors in, the nearest entries of a codebook out.

A quantizer sees only vectors. It knows no rank, no modality and no path, which is why one
serves audio, images and video alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from vqvideo.registry import Registry


class NotFiniteError(ValueError):
    """NaN or infinity where a quantizer needs numbers; the message says where."""


class Quantized(NamedTuple):
    """What a quantizer returns, in training and in evaluation alike.

    Attributes:
        z_q: `[b, d, *grid]`, the chosen entries; its gradient passes straight to z_e.
        codes: int64 `[b, *grid]`, or `[b, *grid, s]` with several codebooks.
        commitment_loss: scalar, mean of (z_e - sg[e])^2, third term of eq. 3 before beta.
        codebook_loss: scalar, mean of (sg[z_e] - e)^2, second term of eq. 3; zero where the
            codebook is not trained by gradient.
        perplexity: scalar in [1, K], of this batch.
    """

    z_q: Tensor
    codes: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor
    perplexity: Tensor


class Quantizer(nn.Module, ABC):
    """Interface of all quantizers; `vqvideo.testing.check_quantizer` holds its laws.

    Attributes:
        codebook_size: K, entries per codebook; codes lie in [0, K).
        code_dim: d, the length of an entry and the number of channels of z_e and z_q.
        num_codebooks: s; with s > 1 codes carry one more, last axis.
        auto_step: whether a training forward calls `step()` itself.
    """

    codebook_size: int
    code_dim: int
    num_codebooks: int = 1
    auto_step: bool = True

    @abstractmethod
    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize `z_e` `[b, d, *grid]`; positions where `mask` `[b, *grid]` is false count
        in no statistic and in no loss.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """z_q `[b, d, *grid]` of `codes`."""

    @abstractmethod
    def step(self) -> None:
        """Move the codebook by what `forward` gathered in training, then forget it.

        A training loop calls it after each optimizer step; `forward` does where `auto_step` is
        true, for people with a loop of their own.
        """


QUANTIZERS: Registry[Quantizer] = Registry("quantizer")
