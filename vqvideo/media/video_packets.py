"""Read the packets of a video stream: their times, sizes and positions, without decoding.

Containers differ in the times that they give to packets. Some store the time at which each frame
is displayed. Some store only the order of decoding, which differs with B-frames; raw streams store
no times at all, and FFmpeg then makes them up. After a seek, some demuxers give the first packets
no time or that of a neighbour. A packet is therefore recognized by its time, position and size
together, see `PacketInfo.sign`.

Not here: the choice between seeking and counting (video_index.py), decoding (video_decoder.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vqvideo.media.files import MAX_PIXELS, MediaError, open_container
from vqvideo.media.pixels import check_num_pixels

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CHECKSUM_CODECS = {"png", "apng"}  # frames have checksums, which FFmpeg verifies on request
# Flags of FFmpeg: AVFMT_NOTIMESTAMPS, a container that stores no times; AVFMT_TS_DISCONT, an MPEG
# stream, in which seeking compares the times of decoding.
_NO_TIMESTAMPS, _MPEG_STREAM = 0x80, 0x200

# Containers that store the display time of every frame, which the demuxer hands on.
_DISPLAY_TIME_FORMATS = {"mov", "matroska", "mpegts", "flv", "nut", "ogg"}


class PacketInfo(NamedTuple):
    """Fields of a packet that the index needs; the packet itself would keep its data in memory."""

    pts: int | None
    dts: int | None
    duration: int | None
    pos: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool

    @classmethod
    def from_packet(cls, packet: Packet[VideoStream]) -> PacketInfo:
        return cls(*(getattr(packet, name) for name in cls._fields))


@dataclass(frozen=True)
class PacketScan:
    """The packets of a video stream in file order, and what the container says about it.

    Attributes:
        packets: all packets that have data.
        codec: FFmpeg's name of the codec.
        time_base: seconds per unit of `pts`.
        fps: the declared frame rate, or 0.
        aspect: width of a pixel divided by its height, in the first frame.
        has_container_aspect: `aspect` is of the container and holds for all frames.
        stores_times: False for raw streams.
        stores_display_times: the container is known to store the display time of every frame.
        seeks_by_dts: a seek in this container ends at a time of decoding.
        may_reorder: the decoder may output frames in another order than that of the packets.
    """

    packets: list[PacketInfo]
    codec: str
    time_base: float
    fps: float
    aspect: float
    has_container_aspect: bool
    stores_times: bool
    stores_display_times: bool
    seeks_by_dts: bool
    may_reorder: bool


def sign_packet(packet: PacketInfo | Packet[VideoStream]) -> int:
    """Return a 64-bit number that tells a packet from the others of its file."""
    return hash((packet.pts, packet.pos, packet.size))


def find_video_stream(container: InputContainer, file: Path) -> VideoStream:
    """Return the video stream that players show: the default one, else the first.

    Attached cover images are skipped.
    """
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise MediaError(
            f"{file} is a still image or an animated WebP, expected a video; read a "
            "still image with read_image, and convert an animation to .apng or .gif"
        )
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        stream_types = ", ".join(stream.type for stream in container.streams) or "none"
        raise MediaError(f"{file} has no video stream (its streams: {stream_types})")
    stream = next((s for s in streams if s.disposition & s.disposition.default), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{file} has a video codec that FFmpeg does not support; convert it")
    context = stream.codec_context
    check_num_pixels((context.height, context.width), str(file))
    context.thread_count = 1  # several decoders run at a time, one thread each
    context.options = {"max_pixels": str(MAX_PIXELS)}  # for frames of another size
    if context.codec.canonical_name in _CHECKSUM_CODECS:
        context.options = {**context.options, "err_detect": "crccheck+explode"}
    return stream


def scan_packets(file: Path) -> PacketScan:
    """Read all packets of the video stream of a file.

    Raises:
        MediaError: there is no video stream, a packet is incomplete, or there are fewer packets
            than the container lists.
    """
    with open_container(file) as container:
        stream = find_video_stream(container, file)
        packets = [
            PacketInfo.from_packet(packet) for packet in container.demux(stream) if packet.size > 0
        ]
        _check_packets(packets, stream, container, file)
        stores_times = not container.format.flags & _NO_TIMESTAMPS
        rates = (stream.average_rate, stream.guessed_rate)
        return PacketScan(
            packets=packets,
            codec=stream.codec_context.codec.canonical_name,
            time_base=float(stream.time_base or 1),
            fps=float((rates[0] or rates[1] if stores_times else rates[1] or rates[0]) or 0),
            aspect=float(stream.sample_aspect_ratio or 1),
            has_container_aspect=(
                stream.sample_aspect_ratio != stream.codec_context.sample_aspect_ratio
            ),
            stores_times=stores_times,
            stores_display_times=not _DISPLAY_TIME_FORMATS.isdisjoint(
                container.format.name.split(",")
            ),
            seeks_by_dts=bool(container.format.flags & _MPEG_STREAM),
            may_reorder=bool(stream.codec_context.has_b_frames),
        )


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
    if not packets:
        raise MediaError(f"{file} has a video stream but no frames; record or encode it again")
