"""The entry of a codebook that is nearest to each vector: exact, and never a matrix of all pairs.

The entry at the smallest |x - e|^2 has the largest score x.e - |e|^2 / 2, so the search is a
matrix product and a maximum. Both are done for a tile of entries and a chunk of vectors at a
time, whose scores stay in cache. The largest score is looked for by groups first and then within
one group, since a maximum is far quicker to find than its place.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 32  # entries among which the largest score is looked for at once
TILE = 2048  # entries worked on at once
SCORES_AT_ONCE = 3 * 2**19  # floats: 6 MiB of scores


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the entry nearest to each vector: int64 `[n]`; ties go to the lowest index.

    Args:
        vectors: float32 (or float64) `[n, d]`.
        codebook: `[K, d]` of the same kind.

    >>> nearest_codes(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    tensor([1])
    """
    # Far from the origin the score is a difference of large numbers. The median of some entries
    # lies among them, even where one of them is far out.
    centre = codebook[:: max(1, len(codebook) // 9)].median(dim=0).values
    score = _score_by_onednn if _onednn_is_faster(vectors) else _Scores()
    codes = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    best = torch.empty(0)  # scores of `codes`, once there is more than one tile
    if len(codebook) > TILE:
        best = vectors.new_full((len(vectors),), -torch.inf)
    for first in range(0, len(codebook), TILE):
        tile = codebook[first : first + TILE] - centre
        entries = F.pad(tile, (0, 0, 0, -len(tile) % GROUP))
        bias = entries.square().sum(dim=1) / -2
        bias[len(tile) :] = -torch.inf  # what fills up the last group never wins
        rows = SCORES_AT_ONCE // len(entries)
        for start in range(0, len(vectors), rows):
            chunk = slice(start, start + rows)
            # The scores get no name, or they would still be there when the next come.
            highest, code = _highest(score(vectors[chunk] - centre, entries, bias))
            if len(best):
                better = highest > best[chunk]
                best[chunk] = torch.where(better, highest, best[chunk])
                codes[chunk] = torch.where(better, code + first, codes[chunk])
            else:
                codes[chunk] = code
    return codes


def _highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score of each row and the lowest column that has it."""
    groups = scores.unflatten(1, (-1, GROUP))
    group = groups.amax(dim=2).argmax(dim=1)
    members = groups[torch.arange(len(group), device=group.device), group]
    member = members.argmax(dim=1, keepdim=True)
    return members.gather(1, member)[:, 0], group * GROUP + member[:, 0]


class _Scores:
    """vectors @ entries.T + bias, written over the scores of the call before."""

    def __init__(self) -> None:
        self.memory = torch.empty(0)

    def __call__(self, vectors: Tensor, entries: Tensor, bias: Tensor) -> Tensor:
        shape = (len(vectors), len(entries))
        if self.memory.numel() < shape[0] * shape[1]:
            self.memory = vectors.new_empty(shape[0] * shape[1])
        out = self.memory[: shape[0] * shape[1]].view(shape)
        return torch.addmm(bias, vectors, entries.T, out=out)


def _score_by_onednn(vectors: Tensor, entries: Tensor, bias: Tensor) -> Tensor:
    # What torch.compile calls for a linear layer; there is no public name for it.
    return torch.ops.mkldnn._linear_pointwise(vectors, entries, bias, "none", [], "")  # type: ignore[no-any-return]


def _onednn_is_faster(vectors: Tensor) -> bool:
    return vectors.dtype == torch.float32 and vectors.device.type == "cpu" and _has_fast_onednn()


@functools.cache
def _has_fast_onednn() -> bool:
    """Whether this processor has AVX-512 and is not Intel's.

    There MKL, behind `torch.addmm`, leaves AVX-512 unused, and oneDNN does not: 1.5 to 2 times
    the rate (docs/benchmarks.md). What a machine is decides, not a measurement, so that the same
    machine chooses the same sums, and with them the same code of two equally near ones.
    """
    # A torch that cannot tell what the processor has takes the plain way.
    processor: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if "Intel" in processor.get("cpu_name", "Intel") or not processor.get("avx512_f"):
        return False
    x, entries = torch.eye(GROUP), torch.arange(8.0 * GROUP).view(8, GROUP)
    try:
        scores = _score_by_onednn(x, entries, torch.arange(8.0))
    except (AttributeError, RuntimeError):  # a torch built without it, or with another signature
        return False
    return torch.equal(scores, entries.T + torch.arange(8.0))
