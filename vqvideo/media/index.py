"""The index of a video file: how many frames it presents, and when.

It is read from the packets, not from the header and not by decoding: each packet
carries the time at which its frame is shown and whether an edit list hides it. Headers
over-report trimmed files, and decoders under-report damaged ones; reading frames by this
index shows both. Where packets carry no such times (B-frames in AVI), the file is
decoded once to count.

Not here: which frame is seen when (times.py), the frames themselves (decode.py, video.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from vqvideo.media.files import MediaError, PathLike, input_file, open_container

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_CHECKED = {"png", "apng"}  # frames carry checksums, which are compared on demand


class VideoInfo(NamedTuple):
    """What a video file presents.

    Attributes:
        path: absolute.
        num_frames: frames shown, after any edit list.
        seconds: presentation time of each frame, in display order; `[num_frames]`.
        duration: seconds from the start of the first frame to the end of the last.
        fps: average frames per second.
        height: in pixels as displayed: rotated, with square pixels.
        width: likewise.
        codec: FFmpeg's name, such as "h264" or "av1".
        video_bytes: of the pictures alone, without sound and what the container adds.
    """

    path: Path
    num_frames: int
    seconds: tuple[float, ...]
    duration: float
    fps: float
    height: int
    width: int
    codec: str
    video_bytes: int


class Turn(NamedTuple):
    """How a stored frame is turned for display: transposed first, then mirrored."""

    transpose: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What a reader needs to find a frame. `pts` are in units of `time_base` seconds.

    With `counted`, packets have no usable times: frames are found by counting from the
    first one, and `pts` hold times for people only.
    """

    path: Path
    pts: array[int]
    key_pts: array[int]
    time_base: float
    duration: float
    fps: float
    height: int
    width: int
    codec: str
    video_bytes: int
    turn: Turn
    square_pixels: bool
    counted: bool

    def key_before(self, frame: int) -> int:
        """Which key frame (an index into `key_pts`) a decoder starts from; -1: none."""
        return bisect_right(self.key_pts, self.pts[frame]) - 1

    def key_frame_before(self, frame: int) -> int:
        """The number of that key frame; 0 where there is none."""
        key = -1 if self.counted else self.key_before(frame)
        return bisect_left(self.pts, self.key_pts[key]) if key >= 0 else 0


def probe(path: PathLike) -> VideoInfo:
    """Count and time the frames of a video file, without decoding more than the first.

    Args:
        path: a video file in any container FFmpeg reads (mp4, webm, mkv, avi, gif, ...).

    Raises:
        FileNotFoundError: no such file.
        MediaError: a folder, an empty file, no video in it, no frames, or a file that
            holds less than its container declares.
    """
    index = index_video(path)
    return VideoInfo(
        path=index.path,
        num_frames=len(index.pts),
        seconds=tuple(pts * index.time_base for pts in index.pts),
        duration=index.duration,
        fps=index.fps,
        height=index.height,
        width=index.width,
        codec=index.codec,
        video_bytes=index.video_bytes,
    )


def index_video(path: PathLike) -> VideoIndex:
    """The index of a file; kept for the files used last, until they change on disk."""
    file = input_file(path)
    status = file.stat()
    return _index_video(file, status.st_size, status.st_mtime_ns)


def video_stream(container: InputContainer, file: Path) -> VideoStream:
    """The first moving picture of a container; a cover picture of a song is none."""
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise MediaError(
            f"{file} is a still image, or a WebP animation, which FFmpeg takes for one; read a "
            "still image with read_image, and convert an animation to .apng or .gif"
        )
    for stream in container.streams.video:
        if stream.disposition & stream.disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise MediaError(f"{file} has video of a kind FFmpeg does not know; convert it")
        stream.codec_context.thread_count = 1  # many readers at a time, one thread each
        if stream.codec_context.codec.canonical_name in _CHECKED:
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        return stream
    found = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise MediaError(f"{file} has no video stream (it holds: {found}); is it a sound file?")


class Listed(NamedTuple):
    """What the index needs of a packet, which would keep its bytes in memory."""

    pts: int | None
    duration: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool

    @classmethod
    def of(cls, packet: Packet[VideoStream]) -> Listed:
        return cls(*(getattr(packet, name) for name in cls._fields))


@lru_cache(maxsize=1024)  # 8 bytes for each frame: an hour takes one megabyte
def _index_video(file: Path, num_bytes: int, mtime_ns: int) -> VideoIndex:
    with open_container(file) as container:
        stream = video_stream(container, file)
        packets = [Listed.of(packet) for packet in container.demux(stream) if packet.size > 0]
        _check_packets(packets, stream, container, file)
        shown = [packet for packet in packets if not packet.is_discard]
        num_video_bytes = sum(packet.size for packet in packets)
        pts = array("q", sorted(packet.pts for packet in shown if packet.pts is not None))
        keys = array("q", sorted(p.pts for p in packets if p.pts is not None and p.is_keyframe))
        counted = (
            len(pts) < len(shown)
            or len(set(pts)) < len(pts)
            or (container.format.name == "avi" and bool(stream.codec_context.has_b_frames))
        )
        after_last = max((p.pts + (p.duration or 0) for p in shown if p.pts is not None), default=0)
        codec, time_base = stream.codec_context.codec.canonical_name, float(stream.time_base or 1)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        aspect = float(stream.sample_aspect_ratio or 1)
    first, num_decoded = _decode_first(file, count=counted)
    if counted:
        pts, time_base = array("q", range(num_decoded)), 1 / (fps or 25)
        after_last = num_decoded
    fps = _average_fps(pts, time_base, fps)
    if after_last <= pts[-1]:  # the last frame does not say how long it is shown
        after_last = pts[-1] + round(1 / (fps * time_base))
    turn = _turn(first, file)
    height, width = first.height, max(1, round(first.width * aspect))
    return VideoIndex(
        path=file,
        pts=pts,
        key_pts=keys,
        time_base=time_base,
        duration=(after_last - pts[0]) * time_base,
        fps=fps,
        height=width if turn.transpose else height,
        width=height if turn.transpose else width,
        codec=codec,
        video_bytes=num_video_bytes,
        turn=turn,
        square_pixels=width == first.width,
        counted=counted,
    )


def _decode_first(file: Path, *, count: bool) -> tuple[VideoFrame, int]:
    """The first frame, which alone knows how it is turned; and on demand, how many follow."""
    with open_container(file) as container:
        frames = container.decode(video_stream(container, file))
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{file} has a video stream but no frames; record or encode it again")
        return first, 1 + (sum(1 for _ in frames) if count else 0)


def _check_packets(
    packets: list[Listed], stream: VideoStream, container: InputContainer, file: Path
) -> None:
    """What was found must be all that the container's own tables list, and whole."""
    if any(packet.is_corrupt for packet in packets):
        raise MediaError(f"{file} is damaged: a packet is incomplete; copy or download it again")
    listed = len(stream.index_entries) if "mp4" in container.format.name else 0
    if len(packets) < listed:
        raise MediaError(
            f"{file} is cut off: it lists {listed} frames and holds {len(packets)}; "
            "copy or download it again"
        )


def _average_fps(pts: array[int], time_base: float, declared: float) -> float:
    """The declared rate where it agrees to 1 % with the times (it is exact), else the times'."""
    duration = (pts[-1] - pts[0]) * time_base
    if duration <= 0:
        return declared or 1.0
    measured = (len(pts) - 1) / duration
    return declared if abs(declared - measured) <= 0.01 * measured else measured


def _turn(frame: VideoFrame, file: Path) -> Turn:
    """Read the display matrix: (x, y) of the stored frame is shown at (ax + cy, bx + dy)."""
    side_data = cast("SideDataContainer", frame.side_data)
    if "DISPLAYMATRIX" not in side_data:
        return Turn()
    a, b, _, c, d = array("i", bytes(side_data["DISPLAYMATRIX"]))[:5]
    if not (a == d == 0 or b == c == 0):
        raise MediaError(
            f"{file} is shown rotated by {frame.rotation} degrees; only multiples of 90 can be "
            "read, so turn it with a video editor first"
        )
    transpose = a == 0
    return Turn(transpose, (b if transpose else d) < 0, (c if transpose else a) < 0)
