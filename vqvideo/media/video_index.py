"""Index video files: the number of frames and their presentation times (pts).

The index is read from the packets, not from the header and not by decoding: each packet has the
presentation time of its frame and a flag for frames hidden by an edit list. Headers overcount the
frames of trimmed files, and decoders undercount the frames of damaged files; reading frames by
this index detects both. If the packets have no such times (B-frames in AVI), the file is decoded
once to count the frames.

Not here: the frame displayed at a time (timestamps.py), the frames themselves (video_decoder.py,
frames.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from vqvideo.media.files import MediaError, PathLike, open_container, resolve_input_file
from vqvideo.media.pixels import MAX_PIXELS, check_num_pixels

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_CHECKSUM_CODECS = {"png", "apng"}  # frames have checksums, which FFmpeg verifies on request


class VideoInfo(NamedTuple):
    """Metadata of a video file.

    Attributes:
        path: absolute path of the file.
        num_frames: number of displayed frames, after any edit list.
        pts_seconds: presentation time of each frame in seconds, in display order; `[num_frames]`.
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

    With `has_synthetic_pts`, the packets have no usable times: frames are found by counting from
    the first one, and `pts` are computed from the frame rate.
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
    orientation: Orientation
    has_square_pixels: bool
    has_synthetic_pts: bool
    pixel_aspect: float  # width of a pixel divided by its height, in the first frame
    has_container_aspect: bool  # whether that holds for all frames

    def find_key_index(self, frame: int) -> int:
        """Return the index into `key_pts` of the key frame to decode from, or -1 if none."""
        return bisect_right(self.key_pts, self.pts[frame]) - 1

    def find_keyframe(self, frame: int) -> int:
        """Return the number of the key frame to decode from, or 0 if there is none."""
        key = -1 if self.has_synthetic_pts else self.find_key_index(frame)
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


def find_video_stream(container: InputContainer, file: Path) -> VideoStream:
    """Return the first video stream of a container; skip attached cover images."""
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise MediaError(
            f"{file} is a still image or an animated WebP, expected a video; read a "
            "still image with read_image, and convert an animation to .apng or .gif"
        )
    for stream in container.streams.video:
        if stream.disposition & stream.disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise MediaError(f"{file} has a video codec that FFmpeg does not support; convert it")
        context = stream.codec_context
        check_num_pixels((context.height, context.width), str(file))
        context.thread_count = 1  # several decoders run at a time, one thread each
        context.options = {"max_pixels": str(MAX_PIXELS)}  # for frames of another size
        if context.codec.canonical_name in _CHECKSUM_CODECS:
            context.options = {**context.options, "err_detect": "crccheck+explode"}
        return stream
    stream_types = ", ".join(stream.type for stream in container.streams) or "none"
    raise MediaError(f"{file} has no video stream (its streams: {stream_types})")


class PacketInfo(NamedTuple):
    """Fields of a packet that the index needs; the packet itself would keep its data in memory."""

    pts: int | None
    duration: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool

    @classmethod
    def from_packet(cls, packet: Packet[VideoStream]) -> PacketInfo:
        return cls(*(getattr(packet, name) for name in cls._fields))


@lru_cache(maxsize=1024)  # 8 bytes per frame: an hour takes one megabyte
def _index_video(file: Path, num_bytes: int, mtime_ns: int) -> VideoIndex:
    with open_container(file) as container:
        stream = find_video_stream(container, file)
        packets = [
            PacketInfo.from_packet(packet) for packet in container.demux(stream) if packet.size > 0
        ]
        _check_packets(packets, stream, container, file)
        displayed = [packet for packet in packets if not packet.is_discard]
        num_video_bytes = sum(packet.size for packet in packets)
        pts = array("q", sorted(packet.pts for packet in displayed if packet.pts is not None))
        keys = array("q", sorted(p.pts for p in packets if p.pts is not None and p.is_keyframe))
        needs_count = (
            len(pts) < len(displayed)
            or len(set(pts)) < len(pts)
            or (container.format.name == "avi" and bool(stream.codec_context.has_b_frames))
        )
        end = max((p.pts + (p.duration or 0) for p in displayed if p.pts is not None), default=0)
        codec, time_base = stream.codec_context.codec.canonical_name, float(stream.time_base or 1)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        aspect = float(stream.sample_aspect_ratio or 1)
        own_aspect = stream.codec_context.sample_aspect_ratio
        has_container_aspect = stream.sample_aspect_ratio != own_aspect
    first, num_decoded = _decode_first(file, count=needs_count)
    if needs_count:
        pts, time_base = array("q", range(num_decoded)), 1 / (fps or 25)
        end = num_decoded
    fps = _estimate_fps(pts, time_base, fps)
    if end <= pts[-1]:  # the last packet has no duration
        end = pts[-1] + round(1 / (fps * time_base))
    orientation = read_orientation(first, file)
    height, width = first.height, max(1, round(first.width * aspect))
    return VideoIndex(
        path=file,
        pts=pts,
        key_pts=keys,
        time_base=time_base,
        duration=(end - pts[0]) * time_base,
        fps=fps,
        height=width if orientation.transpose else height,
        width=height if orientation.transpose else width,
        codec=codec,
        video_bytes=num_video_bytes,
        orientation=orientation,
        has_square_pixels=width == first.width,
        has_synthetic_pts=needs_count,
        pixel_aspect=aspect,
        has_container_aspect=has_container_aspect,
    )


def _decode_first(file: Path, *, count: bool) -> tuple[VideoFrame, int]:
    """Decode the first frame, which has the orientation; if `count`, also count all frames."""
    with open_container(file) as container:
        frames = container.decode(find_video_stream(container, file))
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{file} has a video stream but no frames; record or encode it again")
        return first, 1 + (sum(1 for _ in frames) if count else 0)


def _check_packets(
    packets: list[PacketInfo], stream: VideoStream, container: InputContainer, file: Path
) -> None:
    """Raise `MediaError` if a packet is corrupt or fewer are found than the container lists."""
    if any(packet.is_corrupt for packet in packets):
        raise MediaError(f"{file} is damaged: a packet is incomplete; copy or download it again")
    num_listed = len(stream.index_entries) if "mp4" in container.format.name else 0
    if len(packets) < num_listed:
        raise MediaError(
            f"{file} is truncated: it lists {num_listed} frames and has {len(packets)}; "
            "copy or download it again"
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
    side_data = cast("SideDataContainer", frame.side_data)
    if "DISPLAYMATRIX" not in side_data:
        return Orientation()
    a, b, _, c, d = array("i", bytes(side_data["DISPLAYMATRIX"]))[:5]
    if not (a == d == 0 or b == c == 0):
        raise MediaError(
            f"{file} is displayed rotated by {frame.rotation} degrees; only multiples of 90 are "
            "supported, so rotate it with a video editor first"
        )
    transpose = a == 0
    return Orientation(transpose, (b if transpose else d) < 0, (c if transpose else a) < 0)
