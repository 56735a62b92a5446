"""Several quantizers as one: side by side over the channels, or one after the other.

Both are given their parts. All parts have codebooks of one size, so that one prior can model
their codes `[b, *grid, s]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqvideo.quantizers.base import QUANTIZERS, Quantized, Quantizer
from vqvideo.quantizers.straight_through import StraightThrough

EMA = {"name": "ema"}


class CompositeQuantizer(Quantizer):
    """What `ProductQuantizer` and `ResidualQuantizer` have in common: their parts.

    Attributes:
        parts: the quantizers, in the order of the last axis of the codes.
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__()
        if not parts or any(part.num_codebooks > 1 for part in parts):
            raise ValueError("parts must be one or more quantizers of one codebook each")
        sizes = [part.codebook_size for part in parts]
        if len(set(sizes)) > 1:
            raise ValueError(f"all parts must have one codebook_size, got {sizes}")
        self.parts = nn.ModuleList(parts)
        self.codebook_size, self.num_codebooks = sizes[0], len(parts)

    def step(self) -> None:
        """See `Quantizer`."""
        for part in self._parts():
            part.step()

    @property
    def warming_up(self) -> bool:
        """See `Quantizer`."""
        return any(part.warming_up for part in self._parts())

    def _parts(self) -> list[Quantizer]:
        return list(self.parts)  # type: ignore[arg-type]

    def _stacked(self, codes: list[Tensor]) -> Tensor:
        return torch.stack(codes, dim=-1) if self.num_codebooks > 1 else codes[0]

    def _split(self, codes: Tensor) -> tuple[Tensor, ...]:
        if self.num_codebooks == 1:
            return (codes,)
        if codes.shape[-1] != self.num_codebooks:
            raise ValueError(
                f"codes must be [batch, *grid, {self.num_codebooks}], got {list(codes.shape)}"
            )
        return codes.unbind(dim=-1)


class ProductQuantizer(CompositeQuantizer):
    """Quantizers side by side: each takes its own channels of z_e.

    The codes of a position are independent choices, K^s of them: ten codebooks side by side on an
    8x8 grid are the 8x8x10 field of the CIFAR-10 experiment (van den Oord et al. 2017, 4.1). The
    losses are those of eq. 3 over all channels.

    Args:
        parts: one per slice of the channels, in order.

    >>> from vqvideo.quantizers import EMAQuantizer
    >>> halves = [EMAQuantizer(codebook_size=8, code_dim=3) for _ in range(2)]
    >>> ProductQuantizer(halves).eval()(torch.zeros(1, 6, 4)).codes.shape
    torch.Size([1, 4, 2])
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__(parts)
        self.z_channels = sum(part.z_channels for part in parts)

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """See `Quantizer`."""
        widths = [part.z_channels for part in self._parts()]
        slices = z_e.split(widths, dim=1)
        found = [part.quantize(x, mask) for part, x in zip(self._parts(), slices, strict=True)]
        commitment = [w * q.commitment_loss for w, q in zip(widths, found, strict=True)]
        codebook = [w * q.codebook_loss for w, q in zip(widths, found, strict=True)]
        return Quantized(
            z_q=torch.cat([each.z_q for each in found], dim=1),
            codes=self._stacked([each.codes for each in found]),
            commitment_loss=_sum(commitment) / self.z_channels,
            codebook_loss=_sum(codebook) / self.z_channels,
            perplexity=_sum([each.perplexity for each in found]) / len(found),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        split = zip(self._parts(), self._split(codes), strict=True)
        return torch.cat([part.dequantize(each) for part, each in split], dim=1)


class ResidualQuantizer(CompositeQuantizer):
    """Quantizers one after the other: each takes what the ones before left over.

    z_q is the sum of what they give; the losses are the sums of theirs. Each part starts its
    codebook once the one before has, so the first steps pass unquantized.

    Args:
        parts: from coarse to fine.

    >>> from vqvideo.quantizers import EMAQuantizer
    >>> stages = [EMAQuantizer(codebook_size=8, code_dim=3) for _ in range(2)]
    >>> ResidualQuantizer(stages).eval()(torch.zeros(1, 3, 4, 4)).codes.shape
    torch.Size([1, 4, 4, 2])
    """

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        super().__init__(parts)
        if not all(part.plain_lookup for part in parts):
            raise ValueError(
                "parts of a residual quantizer must give the nearest entry as it is: codebooks "
                "without cosine and without a projection"
            )
        channels = [part.z_channels for part in parts]
        if len(set(channels)) > 1:
            raise ValueError(f"all parts must have the same z_channels, got {channels}")
        self.z_channels = channels[0]

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """See `Quantizer`."""
        found: list[Quantized] = []
        rest, z_q = z_e, torch.zeros_like(z_e)
        for part in self._parts():
            found.append(part.quantize(rest, mask))
            step = found[-1].z_q.detach()
            rest, z_q = rest - step, z_q + step
            if self.training and part.warming_up:  # nothing is left over for the parts behind
                mask = torch.zeros_like(found[0].codes, dtype=torch.bool)
        return Quantized(
            z_q=StraightThrough.apply(z_e, z_q),
            codes=self._stacked([each.codes for each in found]),
            commitment_loss=_sum([each.commitment_loss for each in found]),
            codebook_loss=_sum([each.codebook_loss for each in found]),
            perplexity=_sum([each.perplexity for each in found]) / len(found),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        z_q: Tensor | float = 0.0
        for part, stage in zip(self._parts(), self._split(codes), strict=True):
            z_q = z_q + part.dequantize(stage)
        assert isinstance(z_q, Tensor)
        return z_q


@QUANTIZERS.register("product")
def product(*, num_codebooks: int = 2, part: str | Mapping[str, Any] = EMA) -> ProductQuantizer:
    """`num_codebooks` quantizers side by side, all built like `part`.

    Args:
        num_codebooks: s, at least 1.
        part: the name of a registered quantizer, or a mapping with the name, "ema" where none is
            given, and its options.

    >>> product(num_codebooks=10, part={"codebook_size": 512, "code_dim": 8}).z_channels
    80
    """
    return ProductQuantizer(_built(num_codebooks, part))


@QUANTIZERS.register("residual")
def residual(*, num_codebooks: int = 2, part: str | Mapping[str, Any] = EMA) -> ResidualQuantizer:
    """`num_codebooks` quantizers one after the other, all built like `part`.

    Args:
        num_codebooks: s, at least 1.
        part: the name of a registered quantizer, or a mapping with the name, "ema" where none is
            given, and its options.

    >>> residual(num_codebooks=4, part={"name": "vector", "codebook_size": 64}).num_codebooks
    4
    """
    return ResidualQuantizer(_built(num_codebooks, part))


def _built(number: int, part: str | Mapping[str, Any]) -> list[Quantizer]:
    if number < 1:
        raise ValueError(f"num_codebooks must be at least 1, got {number}")
    options = {**EMA, **({"name": part} if isinstance(part, str) else part)}
    name = options.pop("name")
    return [QUANTIZERS.build(name, options) for _ in range(number)]


def _sum(scalars: list[Tensor]) -> Tensor:
    return torch.stack(scalars).sum()
