"""Whether imagined frames stay like real ones: statistics of frames, and how far apart they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.metrics import student_quantile

LEAST_SPREAD = 1e-3  # of a statistic that hardly differs from frame to frame


def frame_statistics(clips: Tensor) -> Tensor:
    """Four statistics of each colour of each frame but the first: `[b, t - 1, 12]` for clips
    `[b, 3, t, h, w]`.

    The mean, the standard deviation over the pixels, the mean absolute difference of neighbours
    along both axes, and that to the frame before: how bright a frame is, how much there is in it,
    how sharp it is, how much moves.
    """
    moved = clips.diff(dim=2).abs().mean(dim=(3, 4))
    frames = clips[:, :, 1:]
    down, right = (frames.diff(dim=axis).abs().mean(dim=(3, 4)) for axis in (3, 4))
    spread = frames.std(dim=(3, 4), correction=0)
    each = [frames.mean(dim=(3, 4)), spread, (down + right) / 2, moved]
    return torch.cat(each, dim=1).transpose(1, 2)


class Reference(NamedTuple):
    """What the statistics of real frames are like.

    Attributes:
        mean: `[12]`.
        spread: `[12]`, their standard deviation from frame to frame.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, statistics: Tensor) -> Reference:
        """That of statistics `[..., 12]` of real frames."""
        rows = statistics.flatten(0, -2).double()
        return cls(rows.mean(dim=0), rows.std(dim=0, correction=0))

    def distance(self, statistics: Tensor) -> float:
        """How far frames `[..., 12]` are from real ones, in standard deviations of those.

        The Fréchet distance of normal distributions, the root mean square over the statistics, each
        of which stands alone: where their mean lies counts, and how much they differ from frame to
        frame. So frames that are all alike are far from real ones, even if they are all average.
        """
        rows = statistics.flatten(0, -2).double()
        aside = rows.mean(dim=0) - self.mean
        wider = rows.std(dim=0, correction=0) - self.spread
        unit = self.spread.clamp(min=LEAST_SPREAD)
        return ((aside.square() + wider.square()) / unit.square()).mean().sqrt().item()

    def distance_and_interval(self, statistics: Tensor) -> dict[str, Any]:
        """The distance of episodes `[n, t, 12]`, all taken together, and its 95 % interval, from
        the distances without one of them each (jackknife).
        """
        distance, number = self.distance(statistics), len(statistics)
        others = [torch.cat([statistics[:i], statistics[i + 1 :]]) for i in range(number)]
        without = torch.tensor([self.distance(some) for some in others], dtype=torch.float64)
        error = math.sqrt((number - 1) * without.var(correction=0).item())
        aside = student_quantile(number - 1) * error
        interval = (distance - aside, distance + aside)
        return {"mean": distance, "ci95": interval, "standard_error": error}
