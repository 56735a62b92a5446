"""Exact nearest-neighbor search in a codebook without a matrix of all distances.

The entry with the smallest |x - e|^2 has the largest score x.e - |e|^2 / 2, so the search is a
matrix product and an argmax. Both are computed for a tile of entries and a chunk of vectors at a
time, so that the scores stay in cache. The argmax is taken over groups first and then within one
group, since a maximum is much faster to compute than its index.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP_SIZE = 32  # entries per group of the two-level argmax
TILE_SIZE = 2048  # entries per matrix product
MAX_CHUNK_SCORES = 3 * 2**19  # floats: 6 MiB of scores


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the entry nearest to each vector, int64 `[n]`; ties go to the lowest.

    Args:
        vectors: float32 (or float64) `[n, d]`.
        codebook: `[K, d]` of the same dtype.

    >>> nearest_codes(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    tensor([1])
    """
    # Far from the origin the score is a difference of large numbers, so subtract a centre. The
    # median of some entries is robust to outliers.
    centre = codebook[:: max(1, len(codebook) // 9)].median(dim=0).values
    score = _score_by_onednn if _is_onednn_faster(vectors) else _Scorer()
    codes = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    best = torch.empty(0)  # scores of `codes`, used with more than one tile
    if len(codebook) > TILE_SIZE:
        best = vectors.new_full((len(vectors),), -torch.inf)
    for tile_start in range(0, len(codebook), TILE_SIZE):
        tile = codebook[tile_start : tile_start + TILE_SIZE] - centre
        entries = F.pad(tile, (0, 0, 0, -len(tile) % GROUP_SIZE))
        bias = entries.square().sum(dim=1) / -2
        bias[len(tile) :] = -torch.inf  # the padding of the last group never wins
        rows = MAX_CHUNK_SCORES // len(entries)
        for start in range(0, len(vectors), rows):
            chunk = slice(start, start + rows)
            # Do not bind the scores to a name: it would keep them alive during the next product.
            highest, code = _find_highest(score(vectors[chunk] - centre, entries, bias))
            if len(best):
                is_better = highest > best[chunk]
                best[chunk] = torch.where(is_better, highest, best[chunk])
                codes[chunk] = torch.where(is_better, code + tile_start, codes[chunk])
            else:
                codes[chunk] = code
    return codes


def _find_highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest score of each row and the lowest column with that score."""
    groups = scores.unflatten(1, (-1, GROUP_SIZE))
    group = groups.amax(dim=2).argmax(dim=1)
    members = groups[torch.arange(len(group), device=group.device), group]
    member = members.argmax(dim=1, keepdim=True)
    return members.gather(1, member)[:, 0], group * GROUP_SIZE + member[:, 0]


class _Scorer:
    """Computes vectors @ entries.T + bias in a buffer that is reused by the next call."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0)

    def __call__(self, vectors: Tensor, entries: Tensor, bias: Tensor) -> Tensor:
        shape = (len(vectors), len(entries))
        if self.buffer.numel() < shape[0] * shape[1]:
            self.buffer = vectors.new_empty(shape[0] * shape[1])
        out = self.buffer[: shape[0] * shape[1]].view(shape)
        return torch.addmm(bias, vectors, entries.T, out=out)


def _score_by_onednn(vectors: Tensor, entries: Tensor, bias: Tensor) -> Tensor:
    # torch.compile calls this for a linear layer; there is no public name for it.
    return torch.ops.mkldnn._linear_pointwise(vectors, entries, bias, "none", [], "")  # type: ignore[no-any-return]


def _is_onednn_faster(vectors: Tensor) -> bool:
    return vectors.dtype == torch.float32 and vectors.device.type == "cpu" and _has_fast_onednn()


@functools.cache
def _has_fast_onednn() -> bool:
    """Return whether this processor has AVX-512 and is not made by Intel.

    On such processors MKL, which `torch.addmm` uses, does not use AVX-512 and oneDNN does: it is
    1.5 to 2 times as fast (docs/benchmarks.md). The decision depends on the hardware and not on a
    measurement, so the same machine always rounds alike and breaks near ties alike.
    """
    # Without `get_capabilities` (older torch) oneDNN is not used.
    processor: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if "Intel" in processor.get("cpu_name", "Intel") or not processor.get("avx512_f"):
        return False
    x, entries = torch.eye(GROUP_SIZE), torch.arange(8.0 * GROUP_SIZE).view(8, GROUP_SIZE)
    try:
        scores = _score_by_onednn(x, entries, torch.arange(8.0))
    except (AttributeError, RuntimeError):  # torch without oneDNN, or with another signature
        return False
    return torch.equal(scores, entries.T + torch.arange(8.0))
