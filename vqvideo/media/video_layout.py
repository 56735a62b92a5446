"""Decide how the frames of a video are found: by seeking to a time, or by counting.

Frames of most files are found by seeking to a time. That needs times which are complete, all
different and in the order in which the decoder outputs the frames. Other files, such as raw
streams or B-frames in AVI, are decoded once to count the frames, which are then found by counting
from the first one. Such a file still keeps its own times, as far as it has any.

A recording of a broadcast may start between two key frames. What comes before the first key frame
cannot be decoded, so the video starts there, as in a player.

Not here: the packets (video_packets.py), the rest of the index (video_index.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from vqvideo.media.files import MediaError, open_container
from vqvideo.media.video_packets import PacketInfo, PacketScan, find_video_stream

if TYPE_CHECKING:
    from av import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NUM_CHECKED = 16  # frames decoded to check the times of a container that may lack some


class FrameLayout(NamedTuple):
    """The displayed frames of a file and how they are found; see `VideoIndex`."""

    pts: array[int]
    time_base: float
    last_duration: int  # 0 if unknown
    first: VideoFrame
    num_skipped: int
    is_seekable: bool


def lay_out_frames(file: Path, scan: PacketScan) -> FrameLayout:
    """Decide how the frames of a file are found, after decoding as few of them as possible."""
    num_skipped = _count_leading_packets(file, scan.packets)
    displayed = [packet for packet in scan.packets[num_skipped:] if not packet.is_discard]
    limit = _count_frames_to_check(scan, displayed)
    first, decoded = _decode_times(file, num_skipped, limit)
    pts = sorted(packet.pts for packet in displayed if packet.pts is not None)
    start = scan.packets[num_skipped].pts
    if first.pts is not None and start is not None:
        # Frames before the first key frame that refer to frames before the file do not exist.
        del pts[: bisect_left(pts, min(first.pts, start))]
    # A damaged frame may be missing among those decoded; reading it says so.
    is_seekable = limit is not None and set(decoded) <= set(pts) and _are_ordered(decoded)
    time_base = scan.time_base
    if not is_seekable:
        if limit is not None:
            decoded = _decode_times(file, num_skipped, None)[1]
        own_times = _find_own_times(scan, displayed, decoded)
        pts = own_times or list(range(len(decoded)))
        time_base = scan.time_base if own_times else 1 / (scan.fps or 25)
    durations = (packet.duration for packet in displayed if packet.pts == pts[-1])
    last_duration = max((duration or 0 for duration in durations), default=0)
    if time_base != scan.time_base:
        last_duration = 1
    return FrameLayout(array("q", pts), time_base, last_duration, first, num_skipped, is_seekable)


def _count_frames_to_check(scan: PacketScan, displayed: list[PacketInfo]) -> int | None:
    """Return how many frames to decode before their times are trusted; None for all of them."""
    if not scan.stores_times or len({packet.pts for packet in displayed} - {None}) < len(displayed):
        return None
    if scan.stores_display_times:
        return _NUM_CHECKED if _are_doubtful(scan, displayed) else 1
    return None if _are_doubtful(scan, displayed) else _NUM_CHECKED


def _find_own_times(
    scan: PacketScan, displayed: list[PacketInfo], decoded: list[int | None]
) -> list[int] | None:
    """Return the times that the file has for the decoded frames, never decreasing; None if none."""
    dts = sorted(packet.dts for packet in displayed if packet.dts is not None)
    pts = sorted(packet.pts for packet in displayed if packet.pts is not None)
    for times in (dts if _are_doubtful(scan, displayed) else [], pts, decoded):
        if scan.stores_times and len(times) == len(decoded) and _are_ordered(times):
            return cast("list[int]", times)
    return None


def _are_doubtful(scan: PacketScan, displayed: list[PacketInfo]) -> bool:
    """Return whether the times may be those of decoding: those of the packets are in order."""
    return scan.may_reorder and _are_ordered([packet.pts for packet in displayed])


def _are_ordered(times: Sequence[int | None]) -> bool:
    """Return whether times are complete, never decrease and are not all equal."""
    known = [time for time in times if time is not None]
    in_order = all(time <= later for time, later in pairwise(known))
    return len(known) == len(times) and in_order and (len(known) == 1 or known[0] < known[-1])


def _count_leading_packets(file: Path, packets: list[PacketInfo]) -> int:
    """Return the number of packets before the first key frame, which cannot be decoded.

    It is 0 if the decoder finds a key frame among them, which the container does not mark.
    """
    count = next((n for n, packet in enumerate(packets) if packet.is_keyframe), 0)
    if count == 0:
        return 0
    first, _ = _decode_times(file, 0, 1)
    is_leading = first.pts is None or first.pts in {packet.pts for packet in packets[:count]}
    return 0 if first.key_frame and is_leading else count


def _decode_times(
    file: Path, num_skipped: int, limit: int | None
) -> tuple[VideoFrame, list[int | None]]:
    """Decode up to `limit` frames; return the first one, which has the orientation, and all pts.

    Damaged packets are skipped if there is a limit; without one, they raise.
    """
    from av.error import InvalidDataError

    def decode(packet: Packet[VideoStream]) -> list[VideoFrame]:
        try:
            return packet.decode()
        except InvalidDataError:
            if limit is None:  # the number of frames would be wrong
                raise
            return []

    with open_container(file) as container:
        stream = find_video_stream(container, file)
        packets = islice(container.demux(stream), num_skipped, None)
        frames = islice((frame for packet in packets for frame in decode(packet)), limit)
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{file} has a video stream but no frames; record or encode it again")
        return first, [first.pts, *(frame.pts for frame in frames)]
