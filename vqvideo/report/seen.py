"""What a pass over data leaves of each codebook: its entries, their use, some of the z_e."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqvideo.metrics import code_histogram
from vqvideo.quantizers import CompositeQuantizer, ProductQuantizer, Quantizer, ResidualQuantizer

SAMPLE_SIZE = 3000  # of z_e, for the picture


class Seen:
    """One codebook and what it has been given so far.

    Attributes:
        entries: float64 `[K, z_channels]`, what the codes stand for, as `decode` says.
        counts: int64 `[K]`, how often each entry was chosen.
        squares: sum of the squares of all z_e.
        z_e: float32 `[n, z_channels]`, at most `SAMPLE_SIZE`, all equally likely to be among them;
            none where z_e is bounded, normalised or projected before an entry is chosen, and so
            does not lie where the entries do.
    """

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        codes = torch.arange(quantizer.codebook_size, device=device)
        self.entries = quantizer.decode(codes[None])[0].T.cpu().double()
        self.counts = torch.zeros(len(self.entries), dtype=torch.int64)
        self.squares = 0.0
        self._size = SAMPLE_SIZE if quantizer.plain_lookup else 0
        self.z_e = torch.empty(0, self.entries.shape[1])
        self._keys = torch.empty(0)
        self._draw = torch.Generator().manual_seed(0)

    def add(self, z_e: Tensor, codes: Tensor) -> None:
        """Take in a batch: z_e `[b, z_channels, *grid]` and its codes `[b, *grid]`."""
        vectors = z_e.movedim(1, -1).flatten(0, -2).float()
        self.counts += code_histogram(codes, len(self.counts)).cpu()
        self.squares += vectors.square().sum().item()
        keys = torch.cat([self._keys, torch.rand(len(vectors), generator=self._draw)])
        kept = keys.argsort()[: self._size]  # the lowest of independent keys: a fair draw
        before, new = kept[kept < len(self._keys)], kept[kept >= len(self._keys)]
        drawn = vectors[(new - len(self._keys)).to(vectors.device)].cpu()
        self.z_e = torch.cat([self.z_e[before], drawn])
        self._keys = torch.cat([keys[before], keys[new]])


def parts_of(quantizer: Quantizer) -> list[Quantizer]:
    """The quantizers of one codebook each, in the order of the last axis of the codes.

    Raises:
        ValueError: there are several codebooks, and no way to tell what each of them is given.
    """
    if isinstance(quantizer, ProductQuantizer | ResidualQuantizer):
        return list(quantizer.parts)  # type: ignore[arg-type]
    if quantizer.num_codebooks > 1 or isinstance(quantizer, CompositeQuantizer):
        raise ValueError(
            f"a {type(quantizer).__name__} has {quantizer.num_codebooks} codebooks, and a report "
            f"can tell them apart only in a ProductQuantizer or a ResidualQuantizer"
        )
    return [quantizer]


def given_to_parts(
    quantizer: Quantizer, z_e: Tensor, codes: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What each part was given, `[b, z_channels, *grid]`, and its codes `[b, *grid]`.

    A part of a product is given its own channels of z_e; of a residual, what the parts before it
    left over.
    """
    each = codes.unbind(dim=-1) if quantizer.num_codebooks > 1 else (codes,)
    parts = parts_of(quantizer)
    if isinstance(quantizer, ProductQuantizer):
        return z_e.split([part.z_channels for part in parts], dim=1), each
    given = [z_e]
    for part, chosen in zip(parts[:-1], each, strict=False):  # the last leaves it to nobody
        given.append(given[-1] - part.decode(chosen))
    return given, each
