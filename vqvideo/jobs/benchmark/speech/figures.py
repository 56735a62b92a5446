"""What `vqvideo benchmark speech` has counted, as means over speakers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from vqvideo.metrics import mean_and_interval


class Tally(NamedTuple):
    """A figure of one utterance.

    Attributes:
        speaker: who speaks in the recording.
        total: the sum over what is counted.
        number: how many are: frames, samples, or the one utterance.
    """

    speaker: str
    total: float
    number: int = 1


class Judgement(NamedTuple):
    """What the classifier of voices says of one sound.

    Attributes:
        source: who spoke when it was recorded.
        target: in whose voice it is to be.
        log_probs: `[S]` of all speakers.
    """

    source: str
    target: str
    log_probs: Tensor


def over_speakers(tallies: Iterable[Tally]) -> dict[str, Any]:
    """The mean of the speakers' means, each speaker counted alike, and its 95 % interval.

    Utterances of one speaker are more alike than those of two, so that an interval over utterances
    would promise too much. A speaker's mean is over all that is counted in their utterances.

    >>> found = over_speakers([Tally("ann", 1, 2), Tally("ann", 2, 2), Tally("bob", 0.25)])
    >>> found["mean"], found["num_speakers"], found["num_tallies"]
    (0.5, 2, 3)
    """
    sums: dict[str, tuple[float, int]] = {}
    num_tallies = 0
    for tally in tallies:
        total, number = sums.get(tally.speaker, (0.0, 0))
        sums[tally.speaker] = total + tally.total, number + tally.number
        num_tallies += 1
    found = mean_and_interval([total / number for total, number in sums.values()])
    return {**found._asdict(), "num_speakers": len(sums), "num_tallies": num_tallies}


def means_of(
    groups: Mapping[str, Mapping[str, Sequence[Tally]]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """The means of each figure of each group."""
    return {
        group: {name: over_speakers(tallies) for name, tallies in figures.items()}
        for group, figures in groups.items()
    }


def judged(judgements: Sequence[Judgement], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Whose voices sounds are judged to be, each figure over the speakers who were recorded.

    Args:
        judgements: of sounds.
        names: of the speakers that have the log-probabilities.

    Returns:
        `target`, `source`, `somebody_else`: the shares of sounds that are most probably theirs,
        which add up to one; `target_over_source`: the share in which the target is more probable
        than the source; `target_rank`: how many speakers are as probable as the target or more.
    """
    rows: dict[str, list[Tally]] = {}
    for source, target, log_probs in judgements:
        best = names[int(log_probs.argmax())]
        wanted = log_probs[names.index(target)]
        figures = {
            "target": best == target,
            "source": best == source,
            "somebody_else": best not in (target, source),
            "target_over_source": bool(wanted > log_probs[names.index(source)]),
            "target_rank": int((log_probs >= wanted).sum()),
        }
        for name, value in figures.items():
            rows.setdefault(name, []).append(Tally(source, float(value)))
    return {name: over_speakers(tallies) for name, tallies in rows.items()}
