"""What x264 makes of a video with the bits that its codes take: a yardstick for reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from vqvideo import media

COARSEST = 51  # of x264's rate factors


def write_yardstick(
    target: Path,
    frames: Callable[[], Iterator[Tensor]],
    fps: float,
    *,
    num_bytes: float,
    overwrite: bool = False,
) -> int:
    """Write the best H.264 file whose pictures take at most so many bytes.

    Returns its rate factor. Where not even the coarsest fits, that one is written: look at its
    `media.probe(...).video_bytes`.

    Args:
        target: .mp4.
        frames: gives the pieces `[3, n, h, w]` of the video anew at each call.
        fps: frames per second.
        num_bytes: of the pictures; what the container adds does not count.
        overwrite: replace a file that exists.
    """
    trial = target.with_name(f".{target.stem}.trial.mp4")

    def takes(crf: int) -> int:
        media.write_video(trial, frames(), fps, crf=crf, keyframe_interval=250, overwrite=True)
        return media.probe(trial).video_bytes

    low, high = 0, COARSEST  # some factor from low to high is the least that fits, or none is
    try:
        while low < high:
            middle = (low + high) // 2
            if takes(middle) <= num_bytes:
                high = middle
            else:
                low = middle + 1
    finally:
        trial.unlink(missing_ok=True)
    media.write_video(target, frames(), fps, crf=low, keyframe_interval=250, overwrite=overwrite)
    return low
