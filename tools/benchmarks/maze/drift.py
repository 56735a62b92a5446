"""Drift of imagined frames: simple frame statistics and their Fréchet distance to real frames."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.metrics import student_t_quantile

MIN_STD = 1e-3  # lower limit for statistics that are almost constant over frames


def compute_frame_statistics(clips: Tensor) -> Tensor:
    """Return four statistics of each color channel of each frame but the first: `[b, t - 1, 12]`
    for clips `[b, 3, t, h, w]`.

    They are the mean over pixels (brightness), the standard deviation over pixels (contrast), the
    mean absolute difference of neighboring pixels along both axes (sharpness), and the mean
    absolute difference to the previous frame (motion).
    """
    motion = clips.diff(dim=2).abs().mean(dim=(3, 4))
    frames = clips[:, :, 1:]
    vertical, horizontal = (frames.diff(dim=axis).abs().mean(dim=(3, 4)) for axis in (3, 4))
    contrast = frames.std(dim=(3, 4), correction=0)
    statistics = [frames.mean(dim=(3, 4)), contrast, (vertical + horizontal) / 2, motion]
    return torch.cat(statistics, dim=1).transpose(1, 2)


class ReferenceStatistics(NamedTuple):
    """The mean and standard deviation of the statistics of real frames.

    Attributes:
        mean: `[12]`, mean over frames.
        std: `[12]`, standard deviation over frames.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def from_statistics(cls, statistics: Tensor) -> ReferenceStatistics:
        """Return the reference for statistics `[..., 12]` of real frames."""
        rows = statistics.flatten(0, -2).double()
        return cls(rows.mean(dim=0), rows.std(dim=0, correction=0))

    def frechet_distance(self, statistics: Tensor) -> float:
        """Return the Fréchet distance of statistics `[..., 12]` from those of real frames, in
        standard deviations of the latter.

        It is the Fréchet distance of normal distributions, computed for each statistic separately
        and combined as a root mean square. It includes differences of the mean and of the
        variation over frames, so identical frames are far from real ones even at the mean.
        """
        rows = statistics.flatten(0, -2).double()
        mean_difference = rows.mean(dim=0) - self.mean
        std_difference = rows.std(dim=0, correction=0) - self.std
        unit = self.std.clamp(min=MIN_STD)
        squares = (mean_difference.square() + std_difference.square()) / unit.square()
        return squares.mean().sqrt().item()

    def estimate_frechet_distance(self, statistics: Tensor) -> dict[str, Any]:
        """Return the distance of the statistics `[n, t, 12]` of n episodes, with its 95 % interval
        and standard error from leaving out one episode at a time (jackknife).
        """
        distance, num_episodes = self.frechet_distance(statistics), len(statistics)
        others = [torch.cat([statistics[:i], statistics[i + 1 :]]) for i in range(num_episodes)]
        distances = torch.tensor(
            [self.frechet_distance(other) for other in others], dtype=torch.float64
        )
        error = math.sqrt((num_episodes - 1) * distances.var(correction=0).item())
        margin = student_t_quantile(num_episodes - 1) * error
        interval = (distance - margin, distance + margin)
        return {"mean": distance, "ci95": interval, "standard_error": error}
