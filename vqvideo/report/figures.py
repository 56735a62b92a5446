"""Figures of one codebook, from its entries and from how often each was used."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqvideo.metrics import perplexity, usage
from vqvideo.quantizers import Quantizer
from vqvideo.report.seen import Seen

SAME = 0.01  # of the entries' spread: closer ones are duplicates
ROWS_AT_ONCE = 128
SMALLEST = 1e-12  # a length that is divided by


@dataclasses.dataclass(frozen=True)
class CodebookFigures:
    """One codebook over a pass of data.

    Attributes:
        codebook_size: K, the number of entries.
        code_dim: d, the length of an entry.
        num_codes: how many codes were seen.
        usage: share of the entries used at least once, 0 to 1.
        perplexity: effective number of entries in use, 1 to K.
        num_dead: entries never used, 0 to K.
        num_duplicates: entries with an earlier one closer than 1 % of the entries' rms distance
            from their mean, 0 to K - 1.
        effective_dimension: how many directions the entries spread over, each counted as often
            as it was used, 0 to code_dim: the participation ratio (sum of l)^2 / (sum of l^2) of
            the eigenvalues l of their covariance. d where they spread over d directions alike.
        norm_ratio: rms length of z_e over rms length of z_q. Near 1 where z_q is the entry
            nearest to z_e; elsewhere (finite_scalar, cosine, a projection) it says little.
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


def figures_of(quantizer: Quantizer, seen: Seen) -> CodebookFigures:
    """The figures of a quantizer with one codebook, of which at least one code was seen."""
    used = seen.counts.double()
    z_q_squares = (used @ seen.entries.square().sum(dim=1)).item()
    return CodebookFigures(
        codebook_size=quantizer.codebook_size,
        code_dim=getattr(quantizer, "code_dim", quantizer.z_channels),
        num_codes=int(seen.counts.sum()),
        usage=usage(seen.counts),
        perplexity=perplexity(seen.counts).item(),
        num_dead=int((seen.counts == 0).sum()),
        num_duplicates=count_duplicates(seen.entries),
        effective_dimension=effective_dimension(covariance(seen.entries, seen.counts)),
        norm_ratio=math.sqrt(seen.squares / max(z_q_squares, SMALLEST)),
    )


def covariance(entries: Tensor, counts: Tensor) -> Tensor:
    """Covariance `[d, d]` of entries `[K, d]`, each taken `counts` `[K]` times."""
    share = (counts / counts.sum()).to(entries.dtype)
    centred = entries - share @ entries
    return (centred * share[:, None]).T @ centred


def effective_dimension(covariance: Tensor) -> float:
    """Participation ratio of the eigenvalues of a covariance `[d, d]`; 0 where all are 0.

    >>> effective_dimension(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    2.0
    """
    total = covariance.square().sum().item()  # of the squared eigenvalues
    return covariance.trace().item() ** 2 / total if total else 0.0


def count_duplicates(entries: Tensor) -> int:
    """How many of the entries float64 `[K, d]` stand where an earlier one does.

    >>> count_duplicates(torch.tensor([[0.0], [1.0], [1.001], [1.0]]).double())
    2
    """
    centred = entries - entries.mean(dim=0)
    rounding = 1e-6 * entries.abs().max().item()  # of float32, in which entries are stored
    near = max(SAME * centred.square().sum(dim=1).mean().sqrt().item(), rounding)
    # Near entries are near along any line. Sorted along one, only neighbours need comparing.
    along = centred @ _line(centred)
    along, order = along.sort()
    centred, found = centred[order], 0
    for start in range(0, len(entries), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        first = int(torch.searchsorted(along, along[rows][0] - near))
        stop = int(torch.searchsorted(along, along[rows][-1] + near, right=True))
        close = _squared_distances(centred[rows], centred[first:stop]) <= near**2
        earlier = order[first:stop] < order[rows, None]
        found += int((close & earlier).any(dim=1).sum())
    return found


def _line(vectors: Tensor) -> Tensor:
    """A direction `[d]` along which vectors `[n, d]` differ much."""
    anywhere = torch.randn(vectors.shape[1], generator=torch.Generator().manual_seed(0))
    line = vectors.T @ (vectors @ anywhere.to(vectors))
    return F.normalize(line, dim=0)


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    norms = rows.square().sum(dim=1)[:, None] + columns.square().sum(dim=1)
    distances: Tensor = norms.addmm_(rows, columns.T, alpha=-2)
    return distances
