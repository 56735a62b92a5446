"""Find the frames of a video that are displayed at given times.

A frame is displayed from its presentation time until that of the next frame. Variable frame
rates, and rates above or below that of the file, therefore need no special case.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from vqvideo.media.files import PathLike
from vqvideo.media.video_index import VideoIndex, index_video


def get_frame_indices(
    path: PathLike, fps: float, *, start_seconds: float = 0.0, num_frames: int | None = None
) -> list[int]:
    """Return the frames displayed at `start_seconds`, `start_seconds + 1 / fps`, and so on.

    The frame displayed at a time is the last one whose presentation time has passed. A rate above
    that of the file repeats frames, a rate below it skips some. Variable frame rates are supported.

    Args:
        path: a video file.
        fps: sampling times per second.
        start_seconds: the first sampling time, relative to the first frame.
        num_frames: number of sampling times; None samples to the end of the video.

    Returns:
        Frame indices for `read_video`.

    Raises:
        ValueError: a rate, start or number of frames out of range, or a time after the end of
            the video.
        FileNotFoundError: the file does not exist.
        MediaError: the file cannot be read.
    """
    check_fps(fps)
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise ValueError(f"start_seconds must be at least 0, got {start_seconds}")
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    index = index_video(path)
    tolerance = 1e-6 / fps  # seconds; a time at the end of the video counts as after it
    available = max(0, math.ceil((index.duration - start_seconds - tolerance) * fps))
    if available < (num_frames or 1):
        last = start_seconds + ((num_frames or 1) - 1) / fps
        raise ValueError(
            f"no frame is displayed at {last:.6g} s: {index.path} ends after "
            f"{index.duration:.6g} s; request fewer frames, a higher fps or an earlier start"
        )
    return [_find_frame_at(index, start_seconds + k / fps) for k in range(num_frames or available)]


def check_fps(fps: float, minimum: float = 0.0) -> None:
    """Raise `ValueError` unless a rate is finite, positive and at least `minimum`."""
    if not (math.isfinite(fps) and fps > 0 and fps >= minimum):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")


def _find_frame_at(index: VideoIndex, seconds: float) -> int:
    """Return the index of the frame displayed `seconds` after the first one.

    Times are stored in ticks: a frame due at 1/24 s may have the time 0.042 s. The search
    therefore allows a time that is one tick late, up to 1/8 of a frame.
    """
    tolerance = min(index.time_base, 0.125 / index.fps)
    latest = index.pts[0] + (seconds + tolerance) / index.time_base
    return max(0, bisect_right(index.pts, latest) - 1)
