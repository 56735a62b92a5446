"""Reading by time: which frame is seen at a moment.

A frame is seen from the time the file gives it until the next one appears, so uneven rates,
and rates above or below that of the file, need no special case.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from vqvideo.media.files import PathLike
from vqvideo.media.index import VideoIndex, index_video


def frames_at(
    path: PathLike, fps: float, *, start_seconds: float = 0.0, num_frames: int | None = None
) -> list[int]:
    """Which frames of a video are seen at `start_seconds`, `start_seconds + 1 / fps`, and so on.

    At any moment the last frame that has appeared is seen. A rate above that of the file
    repeats frames, one below leaves some out; uneven times are respected.

    Args:
        path: a video file.
        fps: moments per second.
        start_seconds: the first moment, counted from when the first frame appears.
        num_frames: how many moments; None goes on to the end of the video.

    Returns:
        Frame numbers for `read_video`.

    Raises:
        ValueError: a rate, start or number out of range, or a moment after the video's end.
        FileNotFoundError: no such file.
        MediaError: the file cannot be read.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise ValueError(f"start_seconds must be at least 0, got {start_seconds}")
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    index = index_video(path)
    almost = 1e-6 / fps  # seconds; a moment that falls on the end is after it
    available = max(0, math.ceil((index.duration - start_seconds - almost) * fps))
    if available < (num_frames or 1):
        last = start_seconds + ((num_frames or 1) - 1) / fps
        raise ValueError(
            f"no frame is shown at {last:.6g} s: {index.path} ends after {index.duration:.6g} s; "
            "ask for fewer frames, a higher fps or an earlier start"
        )
    return [_shown_at(index, start_seconds + k / fps) for k in range(num_frames or available)]


def _shown_at(index: VideoIndex, seconds: float) -> int:
    """The frame seen so long after the first one appeared.

    Times are stored in ticks, so that a frame due at 1/24 s may be marked as due at
    0.042 s. One tick too late still counts, as long as that is little beside a frame.
    """
    tolerance = min(index.time_base, 0.125 / index.fps)
    latest = index.pts[0] + (seconds + tolerance) / index.time_base
    return max(0, bisect_right(index.pts, latest) - 1)
