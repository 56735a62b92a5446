"""Statistics of a codebook over a pass of data: entries, usage counts, a sample of z_e."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram
from vqvideo.quantizers import CompositeQuantizer, ProductQuantizer, Quantizer, ResidualQuantizer

SAMPLE_SIZE = 3000  # number of z_e kept for the plot


class CodebookStatistics:
    """Entries of one codebook and statistics of its inputs.

    Attributes:
        entries: float64 `[K, z_channels]`, the output of `decode` for each code.
        counts: int64 `[K]`, how often each entry was chosen.
        sum_squares: sum of the squares of all z_e.
        z_e: float32 `[n, z_channels]`, a uniform sample of at most `SAMPLE_SIZE` inputs; empty if
            z_e is bounded, normalized or projected before the lookup, because it is then in a
            different space from the entries.
    """

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        codes = torch.arange(quantizer.codebook_size, device=device)
        self.entries = quantizer.decode(codes[None])[0].T.cpu().double()
        self.counts = torch.zeros(len(self.entries), dtype=torch.int64)
        self.sum_squares = 0.0
        self._max_vectors = SAMPLE_SIZE if quantizer.is_nearest_neighbor else 0
        self.z_e = torch.empty(0, self.entries.shape[1])
        self._keys = torch.empty(0)
        self._generator = torch.Generator().manual_seed(0)

    def update(self, z_e: Tensor, codes: Tensor) -> None:
        """Add a batch: z_e `[b, z_channels, *grid]` and its codes `[b, *grid]`."""
        vectors = z_e.movedim(1, -1).flatten(0, -2).float()
        self.counts += code_histogram(codes, len(self.counts)).cpu()
        self.sum_squares += vectors.square().sum().item()
        keys = torch.cat([self._keys, torch.rand(len(vectors), generator=self._generator)])
        kept = keys.argsort()[: self._max_vectors]  # the lowest random keys: a uniform sample
        before, new = kept[kept < len(self._keys)], kept[kept >= len(self._keys)]
        sampled = vectors[(new - len(self._keys)).to(vectors.device)].cpu()
        self.z_e = torch.cat([self.z_e[before], sampled])
        self._keys = torch.cat([keys[before], keys[new]])


def list_codebooks(quantizer: Quantizer) -> list[Quantizer]:
    """Return one quantizer per codebook, in the order of the last axis of the codes.

    Raises:
        ValueError: there are several codebooks, and the input of each cannot be determined.
    """
    if isinstance(quantizer, ProductQuantizer | ResidualQuantizer):
        return list(quantizer.parts)  # type: ignore[arg-type]
    if quantizer.num_codebooks > 1 or isinstance(quantizer, CompositeQuantizer):
        raise ValueError(
            f"a {type(quantizer).__name__} has {quantizer.num_codebooks} codebooks; a report "
            f"supports several codebooks only in a ProductQuantizer or a ResidualQuantizer"
        )
    return [quantizer]


def split_inputs(
    quantizer: Quantizer, z_e: Tensor, codes: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the input `[b, z_channels, *grid]` and the codes `[b, *grid]` of each part.

    The input of a part of a product is its own channels of z_e; that of a part of a residual is
    the quantization error of the parts before it.
    """
    part_codes = codes.unbind(dim=-1) if quantizer.num_codebooks > 1 else (codes,)
    parts = list_codebooks(quantizer)
    if isinstance(quantizer, ProductQuantizer):
        return z_e.split([part.z_channels for part in parts], dim=1), part_codes
    inputs = [z_e]
    for part, chosen in zip(parts[:-1], part_codes, strict=False):  # the last error is unused
        inputs.append(inputs[-1] - part.decode(chosen))
    return inputs, part_codes
