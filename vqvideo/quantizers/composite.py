"""Product and residual quantizers, composed of several quantizers.

All parts must have the same codebook size, so that one prior can model their codes
`[b, *grid, s]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.quantizers.base import QUANTIZERS, Quantized, Quantizer
from vqvideo.quantizers.straight_through import StraightThrough

DEFAULT_PART = {"name": "ema"}


class CompositeQuantizer(Quantizer):
    """Base class of `ProductQuantizer` and `ResidualQuantizer`.

    Attributes:
        parts: the quantizers, in the order of the last axis of the codes.
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__()
        if not parts or any(part.num_codebooks > 1 for part in parts):
            raise ValueError("parts must be one or more quantizers with one codebook each")
        sizes = [part.codebook_size for part in parts]
        if len(set(sizes)) > 1:
            raise ValueError(f"all parts must have the same codebook_size, got {sizes}")
        self.parts = nn.ModuleList(parts)
        self.codebook_size, self.num_codebooks = sizes[0], len(parts)
        self.has_projection = any(part.has_projection for part in parts)

    def update_codebook(self) -> None:
        """Update the codebooks of all parts; see `Quantizer`."""
        for part in self._get_parts():
            part.update_codebook()

    @property
    def is_warming_up(self) -> bool:
        """Return whether any part is warming up; see `Quantizer`."""
        return any(part.is_warming_up for part in self._get_parts())

    def _get_parts(self) -> list[Quantizer]:
        return list(self.parts)  # type: ignore[arg-type]

    def _merge(
        self, outputs: list[Quantized], z_q: Tensor, weights: list[int], total: int = 1
    ) -> Quantized:
        """Return one output for those of all parts; a loss is the weighted sum, over `total`."""
        codes = [output.codes for output in outputs]
        commitment = [w * q.commitment_loss for w, q in zip(weights, outputs, strict=True)]
        codebook = [w * q.codebook_loss for w, q in zip(weights, outputs, strict=True)]
        return Quantized(
            z_q=z_q,
            codes=torch.stack(codes, dim=-1) if self.num_codebooks > 1 else codes[0],
            commitment_loss=torch.stack(commitment).sum() / total,
            codebook_loss=torch.stack(codebook).sum() / total,
            perplexity=torch.stack([q.perplexity for q in outputs]).sum() / len(outputs),
        )

    def _dequantize_parts(self, codes: Tensor) -> list[Tensor]:
        """Return the z_q of each part."""
        if self.num_codebooks == 1:
            codes = codes[..., None]
        if codes.shape[-1] != self.num_codebooks:
            raise ValueError(
                f"codes must be [batch, *grid, {self.num_codebooks}], got {list(codes.shape)}"
            )
        pairs = zip(self._get_parts(), codes.unbind(dim=-1), strict=True)
        return [part.dequantize(part_codes) for part, part_codes in pairs]


class ProductQuantizer(CompositeQuantizer):
    """Product quantizer: each part quantizes its own slice of the channels of z_e.

    A position has K^s possible combinations of codes: ten codebooks on an 8x8 grid give the
    8x8x10 field of the CIFAR-10 experiment (van den Oord et al. 2017, 4.1). The losses are the
    terms of eq. 3 over all channels.

    Args:
        parts: one quantizer per slice of the channels, in order.

    >>> from vqvideo.quantizers import EMAQuantizer
    >>> halves = [EMAQuantizer(codebook_size=8, code_dim=3) for _ in range(2)]
    >>> ProductQuantizer(halves).eval()(torch.zeros(1, 6, 4)).codes.shape
    torch.Size([1, 4, 2])
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__(parts)
        self.z_channels = sum(part.z_channels for part in parts)

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        widths = [part.z_channels for part in self._get_parts()]
        pairs = zip(self._get_parts(), z_e.split(widths, dim=1), strict=True)
        outputs = [part.quantize(x, mask) for part, x in pairs]
        z_q = torch.cat([output.z_q for output in outputs], dim=1)
        return self._merge(outputs, z_q, widths, self.z_channels)

    def dequantize(self, codes: Tensor) -> Tensor:
        return torch.cat(self._dequantize_parts(codes), dim=1)


class ResidualQuantizer(CompositeQuantizer):
    """Residual quantizer: each part quantizes the residual of the parts before it.

    z_q is the sum of the z_q of all parts, and so are the losses. Each part initializes its
    codebook after the part before it, so z_e passes unquantized in the first steps.

    Args:
        parts: the quantizers, from coarse to fine.

    >>> from vqvideo.quantizers import EMAQuantizer
    >>> stages = [EMAQuantizer(codebook_size=8, code_dim=3) for _ in range(2)]
    >>> ResidualQuantizer(stages).eval()(torch.zeros(1, 3, 4, 4)).codes.shape
    torch.Size([1, 4, 4, 2])
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__(parts)
        if not all(part.is_nearest_neighbor for part in parts):
            raise ValueError(
                "parts of a residual quantizer must return the unchanged nearest entry: use "
                "codebooks without cosine and without a projection"
            )
        channels = [part.z_channels for part in parts]
        if len(set(channels)) > 1:
            raise ValueError(f"all parts must have the same z_channels, got {channels}")
        self.z_channels = channels[0]

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        outputs: list[Quantized] = []
        residual, z_q = z_e, torch.zeros_like(z_e)
        for part in self._get_parts():
            outputs.append(part.quantize(residual, mask))
            part_z_q = outputs[-1].z_q.detach()
            residual, z_q = residual - part_z_q, z_q + part_z_q
            if self.training and part.is_warming_up:  # the residual is zero for all later parts
                mask = torch.zeros_like(outputs[0].codes, dtype=torch.bool)
        return self._merge(outputs, StraightThrough.apply(z_e, z_q), [1] * len(outputs))

    def dequantize(self, codes: Tensor) -> Tensor:
        first, *others = self._dequantize_parts(codes)
        return sum(others, 0.0 + first)


@QUANTIZERS.register("product")
def product(
    *, num_codebooks: int = 2, part: str | Mapping[str, Any] = DEFAULT_PART
) -> ProductQuantizer:
    """Build a product quantizer of `num_codebooks` quantizers, all built like `part`.

    Args:
        num_codebooks: s, at least 1.
        part: the name of a registered quantizer, or a mapping with the name, "ema" by default, and
            its options.

    >>> product(num_codebooks=10, part={"codebook_size": 512, "code_dim": 8}).z_channels
    80
    """
    return ProductQuantizer(_build_parts(num_codebooks, part))


@QUANTIZERS.register("residual")
def residual(
    *, num_codebooks: int = 2, part: str | Mapping[str, Any] = DEFAULT_PART
) -> ResidualQuantizer:
    """Build a residual quantizer of `num_codebooks` quantizers, all built like `part`.

    Args:
        num_codebooks: s, at least 1.
        part: the name of a registered quantizer, or a mapping with the name, "ema" by default, and
            its options.

    >>> residual(num_codebooks=4, part={"name": "vector", "codebook_size": 64}).num_codebooks
    4
    """
    return ResidualQuantizer(_build_parts(num_codebooks, part))


def _build_parts(num_codebooks: int, part: str | Mapping[str, Any]) -> list[Quantizer]:
    if num_codebooks < 1:
        raise ValueError(f"num_codebooks must be at least 1, got {num_codebooks}")
    options = {**DEFAULT_PART, **({"name": part} if isinstance(part, str) else part)}
    name = options.pop("name")
    return [QUANTIZERS.build(name, options) for _ in range(num_codebooks)]
