"""Metrics of one codebook, from its entries and their usage counts."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.metrics import codebook_usage, perplexity
from vqvideo.quantizers import Quantizer
from vqvideo.report.codebook_statistics import CodebookStatistics

DUPLICATE_TOLERANCE = 0.01  # relative to the entries' rms distance from their mean
CHUNK_SIZE = 128
EPS = 1e-12  # lower bound of a denominator


@dataclasses.dataclass(frozen=True)
class CodebookMetrics:
    """Metrics of one codebook over a pass of data.

    Attributes:
        codebook_size: K, the number of entries.
        code_dim: d, the number of dimensions of an entry.
        num_codes: number of codes in the pass.
        usage: share of the entries used at least once, 0 to 1.
        perplexity: effective number of entries in use, 1 to K.
        num_dead: number of entries never used, 0 to K.
        num_duplicates: number of entries closer to an earlier one than 1 % of the entries' rms
            distance from their mean, 0 to K - 1.
        effective_dimension: effective number of dimensions of the entries, weighted by usage, 0 to
            code_dim: the participation ratio (sum of l)^2 / (sum of l^2) of the eigenvalues l of
            their covariance. It is d for an equal spread over d directions.
        norm_ratio: rms norm of z_e over rms norm of z_q. Near 1 if z_q is the entry nearest to
            z_e; not meaningful otherwise (finite-scalar, cosine, a projection).
    """

    codebook_size: int
    code_dim: int
    num_codes: int
    usage: float
    perplexity: float
    num_dead: int
    num_duplicates: int
    effective_dimension: float
    norm_ratio: float


def compute_codebook_metrics(
    quantizer: Quantizer, statistics: CodebookStatistics
) -> CodebookMetrics:
    """Compute the metrics of a quantizer with one codebook, from at least one code."""
    counts = statistics.counts.double()
    z_q_squares = (counts @ statistics.entries.square().sum(dim=1)).item()
    return CodebookMetrics(
        codebook_size=quantizer.codebook_size,
        code_dim=getattr(quantizer, "code_dim", quantizer.z_channels),
        num_codes=int(statistics.counts.sum()),
        usage=codebook_usage(statistics.counts),
        perplexity=perplexity(statistics.counts).item(),
        num_dead=int((statistics.counts == 0).sum()),
        num_duplicates=count_duplicates(statistics.entries),
        effective_dimension=effective_dimension(covariance(statistics.entries, statistics.counts)),
        norm_ratio=math.sqrt(statistics.sum_squares / max(z_q_squares, EPS)),
    )


def covariance(entries: Tensor, counts: Tensor) -> Tensor:
    """Return the covariance `[d, d]` of entries `[K, d]`, weighted by `counts` `[K]`."""
    share = (counts / counts.sum()).to(entries.dtype)
    centred = entries - share @ entries
    return (centred * share[:, None]).T @ centred


def effective_dimension(covariance: Tensor) -> float:
    """Return the participation ratio of the eigenvalues of a covariance `[d, d]`; 0 if all are 0.

    >>> effective_dimension(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    2.0
    """
    total = covariance.square().sum().item()  # of the squared eigenvalues
    return covariance.trace().item() ** 2 / total if total else 0.0


def count_duplicates(entries: Tensor) -> int:
    """Count the entries, float64 `[K, d]`, that duplicate an earlier one.

    >>> count_duplicates(torch.tensor([[0.0], [1.0], [1.001], [1.0]]).double())
    2
    """
    centred = entries - entries.mean(dim=0)
    rounding = 1e-6 * entries.abs().max().item()  # entries are stored in float32
    tolerance = max(
        DUPLICATE_TOLERANCE * centred.square().sum(dim=1).mean().sqrt().item(), rounding
    )
    # Duplicates are close along any direction: sort along one and compare only neighbors.
    positions = centred @ _find_direction(centred)
    positions, order = positions.sort()
    centred, num_duplicates = centred[order], 0
    for start in range(0, len(entries), CHUNK_SIZE):
        rows = slice(start, start + CHUNK_SIZE)
        first = int(torch.searchsorted(positions, positions[rows][0] - tolerance))
        stop = int(torch.searchsorted(positions, positions[rows][-1] + tolerance, right=True))
        is_close = _squared_distances(centred[rows], centred[first:stop]) <= tolerance**2
        is_earlier = order[first:stop] < order[rows, None]
        num_duplicates += int((is_close & is_earlier).any(dim=1).sum())
    return num_duplicates


def _find_direction(vectors: Tensor) -> Tensor:
    """Return a direction `[d]` of large variance of vectors `[n, d]`: one power iteration."""
    start = torch.randn(vectors.shape[1], generator=torch.Generator().manual_seed(0))
    direction = vectors.T @ (vectors @ start.to(vectors))
    return F.normalize(direction, dim=0)


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    norms = rows.square().sum(dim=1)[:, None] + columns.square().sum(dim=1)
    distances: Tensor = norms.addmm_(rows, columns.T, alpha=-2)
    return distances
