"""Index video files: the number of frames and their presentation times (pts).

The index is read from the packets, not from the header and not by decoding: each packet has the
presentation time of its frame and a flag for frames hidden by an edit list. Headers overcount the
frames of trimmed files, and decoders undercount the frames of damaged files; reading frames by
this index detects both.

Not here: the packets (video_packets.py), the choice between seeking and counting
(video_layout.py), the frame displayed at a time (timestamps.py), the frames themselves
(video_decoder.py, frames.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from vqvideo.media.files import MediaError, PathLike, resolve_input_file
from vqvideo.media.video_layout import lay_out_frames
from vqvideo.media.video_packets import scan_packets, sign_packet

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame


class VideoInfo(NamedTuple):
    """Metadata of a video file.

    Attributes:
        path: absolute path of the file.
        num_frames: number of displayed frames, after any edit list.
        pts_seconds: presentation time of each frame in seconds, in display order; `[num_frames]`.
            Times never decrease; they are equal where the file repeats a time, and computed from
            the frame rate if the file has none.
        duration: seconds from the start of the first frame to the end of the last.
        fps: average frames per second.
        height: height in pixels as displayed: rotated, with square pixels.
        width: width in pixels as displayed.
        codec: FFmpeg's name of the codec, such as "h264" or "av1".
        video_bytes: size of the video packets, without audio and container overhead.
    """

    path: Path
    num_frames: int
    pts_seconds: tuple[float, ...]
    duration: float
    fps: float
    height: int
    width: int
    codec: str
    video_bytes: int


class Orientation(NamedTuple):
    """The transform from a stored frame to the displayed one: first transpose, then flip."""

    transpose: bool = False
    vflip: bool = False
    hflip: bool = False


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Metadata needed to find a frame; `pts` are in units of `time_base` seconds.

    `key_seek_times` are the times to seek to for the frames of `key_pts`, usually the same.
    `packets` has a signature of each packet in file order (`sign_packet`), and `key_positions` the
    position in it of each key frame. The first `num_skipped` packets cannot be decoded: they
    belong to a key frame before the beginning of the file. Unless `is_seekable`, frames are found
    by counting from the first one.
    """

    path: Path
    pts: array[int]
    key_pts: array[int]
    key_seek_times: array[int]
    packets: array[int]
    key_positions: dict[int, int]
    num_skipped: int
    time_base: float
    duration: float
    fps: float
    height: int
    width: int
    codec: str
    video_bytes: int
    orientation: Orientation
    has_square_pixels: bool
    is_seekable: bool
    pixel_aspect: float  # width of a pixel divided by its height, in the first frame
    has_container_aspect: bool  # whether that holds for all frames

    def find_key_index(self, frame: int) -> int:
        """Return the index into `key_pts` of the key frame to decode from, or -1 if none."""
        return bisect_right(self.key_pts, self.pts[frame]) - 1

    def find_keyframe(self, frame: int) -> int:
        """Return the number of the key frame to decode from, or 0 if there is none."""
        key = self.find_key_index(frame) if self.is_seekable else -1
        return bisect_left(self.pts, self.key_pts[key]) if key >= 0 else 0


def probe(path: PathLike) -> VideoInfo:
    """Return the metadata of a video file; decode only its first frame if possible.

    Args:
        path: a video file in any container FFmpeg reads (mp4, webm, mkv, avi, gif, ...).

    Raises:
        FileNotFoundError: the file does not exist.
        MediaError: the path is a folder, the file is empty or has no video or no frames, or it
            has less data than its container declares.
    """
    index = index_video(path)
    return VideoInfo(
        path=index.path,
        num_frames=len(index.pts),
        pts_seconds=tuple(pts * index.time_base for pts in index.pts),
        duration=index.duration,
        fps=index.fps,
        height=index.height,
        width=index.width,
        codec=index.codec,
        video_bytes=index.video_bytes,
    )


def index_video(path: PathLike) -> VideoIndex:
    """Return the index of a file; cache it for recent files until they change on disk."""
    file = resolve_input_file(path)
    status = file.stat()
    return _index_video(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)  # 16 bytes per frame: an hour takes two megabytes
def _index_video(file: Path, num_bytes: int, mtime_ns: int) -> VideoIndex:
    scan = scan_packets(file)
    layout = lay_out_frames(file, scan)
    pts, time_base, first = layout.pts, layout.time_base, layout.first
    fps = _estimate_fps(pts, time_base, scan.fps)
    end = pts[-1] + (layout.last_duration or max(1, round(1 / (fps * time_base))))
    orientation = read_orientation(first, file)
    height, width = first.height, max(1, round(first.width * scan.aspect))
    signatures = array("q", map(sign_packet, scan.packets))
    keys = {p.pts: n for n, p in enumerate(scan.packets) if p.is_keyframe and p.pts is not None}
    seek_times = {
        time: packet.dts if scan.seeks_by_dts and packet.dts is not None else time
        for time, packet in ((time, scan.packets[n]) for time, n in keys.items())
    }
    return VideoIndex(
        path=file,
        pts=pts,
        key_pts=array("q", sorted(keys)),
        key_seek_times=array("q", [seek_times[time] for time in sorted(keys)]),
        packets=signatures,
        key_positions={signatures[position]: position for position in keys.values()},
        num_skipped=layout.num_skipped,
        time_base=time_base,
        duration=(end - pts[0]) * time_base,
        fps=fps,
        height=width if orientation.transpose else height,
        width=height if orientation.transpose else width,
        codec=scan.codec,
        video_bytes=sum(packet.size for packet in scan.packets),
        orientation=orientation,
        has_square_pixels=width == first.width,
        is_seekable=layout.is_seekable,
        pixel_aspect=scan.aspect,
        has_container_aspect=scan.has_container_aspect,
    )


def _estimate_fps(pts: array[int], time_base: float, declared: float) -> float:
    """Return the declared rate (exact) if within 1 % of the measured one, else the measured."""
    duration = (pts[-1] - pts[0]) * time_base
    if duration <= 0:
        return declared or 1.0
    measured = (len(pts) - 1) / duration
    return declared if abs(declared - measured) <= 0.01 * measured else measured


def read_orientation(frame: VideoFrame, file: Path) -> Orientation:
    """Read the display matrix, which maps (x, y) of a stored frame to (ax + cy, bx + dy)."""
    try:
        side_data = cast("SideDataContainer", frame.side_data)
    except ValueError:  # other side data, such as Exif, of a type that PyAV does not know
        return _read_rotation(frame, file)
    if "DISPLAYMATRIX" not in side_data:
        return Orientation()
    a, b, _, c, d = array("i", bytes(side_data["DISPLAYMATRIX"]))[:5]
    if not (a == d == 0 or b == c == 0):
        raise _make_rotation_error(frame, file)
    transpose = a == 0
    return Orientation(transpose, (b if transpose else d) < 0, (c if transpose else a) < 0)


def _read_rotation(frame: VideoFrame, file: Path) -> Orientation:
    """Return the orientation by the rotation alone, without mirroring."""
    turns = {0: (False, False, False), 90: (True, True, False)}
    turns |= {180: (False, True, True), 270: (True, False, True)}
    if frame.rotation % 360 not in turns:
        raise _make_rotation_error(frame, file)
    return Orientation(*turns[frame.rotation % 360])


def _make_rotation_error(frame: VideoFrame, file: Path) -> MediaError:
    return MediaError(
        f"{file} is displayed rotated by {frame.rotation} degrees; only multiples of 90 are "
        "supported, so rotate it with a video editor first"
    )
