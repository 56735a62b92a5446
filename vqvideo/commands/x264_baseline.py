"""Encode a video by x264 with the size of its codes: a baseline for reconstructions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from vqvideo import media

MAX_CRF = 51  # the coarsest constant rate factor of x264


def write_x264_baseline(
    target: Path,
    frames: Callable[[], Iterator[Tensor]],
    fps: float,
    *,
    num_bytes: float,
    overwrite: bool = False,
) -> int:
    """Write the best H.264 file whose video stream takes at most `num_bytes`; return its CRF.

    If not even the coarsest one fits, that one is written; see its
    `media.probe(...).video_bytes`.

    Args:
        target: .mp4.
        frames: returns the chunks `[3, n, h, w]` of the video; called once per trial.
        fps: frames per second.
        num_bytes: limit of the video stream; the container does not count.
        overwrite: replace an existing file.
    """

    def measure_size(crf: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / "trial.mp4"
            media.write_video(trial, frames(), fps, crf=crf, keyframe_interval=250)
            return media.probe(trial).video_bytes

    low, high = 0, MAX_CRF  # the lowest CRF that fits, if any, is in [low, high]
    while low < high:
        middle = (low + high) // 2
        if measure_size(middle) <= num_bytes:
            high = middle
        else:
            low = middle + 1
    media.write_video(target, frames(), fps, crf=low, keyframe_interval=250, overwrite=overwrite)
    return low
