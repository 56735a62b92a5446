"""What is wrong with a codebook and what to do about it, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vqvideo.quantizers import (
    CodebookQuantizer,
    FiniteScalarQuantizer,
    Quantizer,
    ResidualQuantizer,
)
from vqvideo.report.figures import CodebookFigures
from vqvideo.report.seen import parts_of

HEALTHY = "healthy"
CODES_PER_ENTRY = 10  # fewer say little about which entries are dead


class Case(NamedTuple):
    """One codebook to judge.

    Attributes:
        figures: of the codebook.
        quantizer: that has it, and no other.
        z_q_follows: whether z_q can be expected to be about as long as z_e. What the parts of a
            residual are given beyond the first is what no entry was near to, so it cannot there;
            nor where z_e is bounded, normalised or projected before an entry is chosen.
    """

    figures: CodebookFigures
    quantizer: Quantizer
    z_q_follows: bool


def advise(codebooks: Sequence[CodebookFigures], quantizer: Quantizer) -> str:
    """The gravest of what can be said of a quantizer's codebooks; "healthy" if there is nothing."""
    parts = parts_of(quantizer)
    residual = isinstance(quantizer, ResidualQuantizer)
    cases = [
        Case(figures, part, part.plain_lookup and not (residual and index))
        for index, (figures, part) in enumerate(zip(codebooks, parts, strict=True))
    ]
    for rule in RULES:
        for index, case in enumerate(cases):
            advice = rule(case)
            if advice is not None:
                several = len(cases) > 1
                return f"codebook {index + 1} of {len(cases)}: {advice}" if several else advice
    return HEALTHY


def _too_few(case: Case) -> str | None:
    seen, size = case.figures.num_codes, case.figures.codebook_size
    if seen >= CODES_PER_ENTRY * size:
        return None
    return (
        f"{seen:,} codes are too few to judge {size:,} entries by; "
        f"give more data, at least {CODES_PER_ENTRY * size:,} codes"
    )


def _not_started(case: Case) -> str | None:
    if not case.quantizer.warming_up:
        return None
    return "the codebook has not started yet; train the model first"


def _collapsed(case: Case) -> str | None:
    it, size = case.figures, case.figures.codebook_size
    if it.usage >= 0.1 and it.perplexity >= 0.05 * size:
        return None
    return (
        f"collapsed to a perplexity of {it.perplexity:.1f}, with {size - it.num_dead:,} of "
        f"{size:,} entries in use; train again with {_remedy(case.quantizer)}"
    )


def _many_dead(case: Case) -> str | None:
    it = case.figures
    if it.usage >= 0.9:
        return None
    return (
        f"{it.num_dead:,} of {it.codebook_size:,} entries are dead, never used; "
        f"train again with {_remedy(case.quantizer)}"
    )


def _far_from_z_e(case: Case) -> str | None:
    ratio = case.figures.norm_ratio
    if not case.z_q_follows or 0.5 <= ratio <= 2:
        return None
    return f"z_e is {ratio:.2g} times as long as z_q; train again with a higher commitment_weight"


def _duplicates(case: Case) -> str | None:
    it = case.figures
    if it.num_duplicates <= 0.05 * it.codebook_size:
        return None
    return (
        f"{it.num_duplicates:,} of {it.codebook_size:,} entries are duplicates of others; "
        f"train again with a smaller codebook_size"
    )


def _flat(case: Case) -> str | None:
    it = case.figures
    if it.effective_dimension >= it.code_dim / 16:
        return None
    return (
        f"the entries spread over {it.effective_dimension:.1f} of {it.code_dim} dimensions; "
        f"train again with a smaller code_dim"
    )


RULES = (_too_few, _not_started, _collapsed, _many_dead, _far_from_z_e, _duplicates, _flat)
"""The gravest first; each gives its sentence, or None where it has nothing to say."""


def _remedy(quantizer: Quantizer) -> str:
    """What brings more of the entries into use."""
    if isinstance(quantizer, FiniteScalarQuantizer):
        return "fewer levels"
    if not isinstance(quantizer, CodebookQuantizer):
        return "a smaller codebook_size"
    revive = f"a revive_below above {quantizer.revive_below:g}"
    if quantizer.start == "kmeans":
        return f"a smaller codebook_size or {revive}"
    return f'a smaller codebook_size, {revive} or start="kmeans"'
