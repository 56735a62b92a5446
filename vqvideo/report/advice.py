"""Advice on a codebook, in one sentence: the worst problem and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vqvideo.quantizers import (
    CodebookQuantizer,
    FiniteScalarQuantizer,
    Quantizer,
    ResidualQuantizer,
)
from vqvideo.report.codebook_metrics import CodebookMetrics
from vqvideo.report.codebook_statistics import list_codebooks

HEALTHY = "healthy"
MIN_CODES_PER_ENTRY = 10  # with fewer codes, unused entries are not evidence of dead ones


class CodebookCase(NamedTuple):
    """One codebook to check.

    Attributes:
        metrics: metrics of the codebook.
        quantizer: the quantizer of this codebook only.
        is_norm_comparable: whether the norms of z_q and z_e should be similar. They need not be
            in the later stages of a residual quantizer, whose inputs are quantization errors, or
            if z_e is bounded, normalized or projected before the lookup.
    """

    metrics: CodebookMetrics
    quantizer: Quantizer
    is_norm_comparable: bool


def advise(codebooks: Sequence[CodebookMetrics], quantizer: Quantizer) -> str:
    """Return the advice on the worst problem of a quantizer's codebooks, or "healthy"."""
    parts = list_codebooks(quantizer)
    is_residual = isinstance(quantizer, ResidualQuantizer)
    cases = [
        CodebookCase(metrics, part, part.is_nearest_neighbor and not (is_residual and index))
        for index, (metrics, part) in enumerate(zip(codebooks, parts, strict=True))
    ]
    for check in CHECKS:
        for index, case in enumerate(cases):
            advice = check(case)
            if advice is not None:
                is_multiple = len(cases) > 1
                return f"codebook {index + 1} of {len(cases)}: {advice}" if is_multiple else advice
    return HEALTHY


def _check_num_codes(case: CodebookCase) -> str | None:
    num_codes, size = case.metrics.num_codes, case.metrics.codebook_size
    if num_codes >= MIN_CODES_PER_ENTRY * size:
        return None
    return (
        f"{num_codes:,} codes are too few to assess {size:,} entries; "
        f"provide more data, at least {MIN_CODES_PER_ENTRY * size:,} codes"
    )


def _check_initialized(case: CodebookCase) -> str | None:
    if not case.quantizer.is_warming_up:
        return None
    return "the codebook is not initialized yet; train the model first"


def _check_collapse(case: CodebookCase) -> str | None:
    metrics, size = case.metrics, case.metrics.codebook_size
    if metrics.usage >= 0.1 and metrics.perplexity >= 0.05 * size:
        return None
    return (
        f"collapsed to a perplexity of {metrics.perplexity:.1f}, with "
        f"{size - metrics.num_dead:,} of {size:,} entries in use; "
        f"train again with {_suggest_remedy(case.quantizer)}"
    )


def _check_dead_entries(case: CodebookCase) -> str | None:
    metrics = case.metrics
    if metrics.usage >= 0.9:
        return None
    return (
        f"{metrics.num_dead:,} of {metrics.codebook_size:,} entries are dead, never used; "
        f"train again with {_suggest_remedy(case.quantizer)}"
    )


def _check_norm_ratio(case: CodebookCase) -> str | None:
    ratio = case.metrics.norm_ratio
    if not case.is_norm_comparable or 0.5 <= ratio <= 2:
        return None
    return (
        f"the norm of z_e is {ratio:.2g} times that of z_q; "
        f"train again with a higher commitment_weight"
    )


def _check_duplicates(case: CodebookCase) -> str | None:
    metrics = case.metrics
    if metrics.num_duplicates <= 0.05 * metrics.codebook_size:
        return None
    return (
        f"{metrics.num_duplicates:,} of {metrics.codebook_size:,} entries are duplicates of "
        f"others; train again with a smaller codebook_size"
    )


def _check_dimension(case: CodebookCase) -> str | None:
    metrics = case.metrics
    if metrics.effective_dimension >= metrics.code_dim / 16:
        return None
    return (
        f"the entries spread over {metrics.effective_dimension:.1f} of {metrics.code_dim} "
        f"dimensions; train again with a smaller code_dim"
    )


CHECKS = (
    _check_num_codes,
    _check_initialized,
    _check_collapse,
    _check_dead_entries,
    _check_norm_ratio,
    _check_duplicates,
    _check_dimension,
)
"""Checks by severity, the worst first; each returns its advice or None."""


def _suggest_remedy(quantizer: Quantizer) -> str:
    """Return the options that increase the number of used entries."""
    if isinstance(quantizer, FiniteScalarQuantizer):
        return "fewer levels"
    if not isinstance(quantizer, CodebookQuantizer):
        return "a smaller codebook_size"
    threshold = f"a dead_code_threshold above {quantizer.dead_code_threshold:g}"
    if quantizer.init == "kmeans":
        return f"a smaller codebook_size or {threshold}"
    return f'a smaller codebook_size, {threshold} or init="kmeans"'
