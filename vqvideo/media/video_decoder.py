"""Decode frames by number, exactly and with as little work as possible.

A `VideoDecoder` is one open file and its current position. It decodes forward if the requested
frame is ahead and no key frame is closer; otherwise it seeks to the key frame before it. On the
way, frames that no other frame refers to (most B-frames) are not decoded.

After a seek, the packets are compared with those of the index, as some demuxers then give them no
time or that of a neighbour, and the first frame must be the key frame of the first packet. If that
fails, or does not yield the frame, because a key frame is not always independent, the decoder
decodes everything from the beginning of the file: slow, but always correct.

Each process keeps the most recently used decoders open, at most `MAX_IDLE_DECODERS` of them. A
file with few key frames may have several decoders at different positions, so that one of them is
close to the next clip. A decoder in use is removed from the idle list, so no two threads share one.

Not here: the frames of a file (video_index.py), their colours and sizes (frames.py).
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from vqvideo.media.files import MediaError, open_input, wrap_ffmpeg_errors
from vqvideo.media.video_index import VideoIndex
from vqvideo.media.video_packets import find_video_stream, sign_packet

if TYPE_CHECKING:
    from av import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_IDLE_DECODERS = 4

# Codecs in which a non-reference frame is used by no later frame. In HEVC this holds only
# within a temporal layer.
_NONREF_SKIP_CODECS = {"h264", "mpeg4", "mpeg2video"}

_SEEK_COST = 8  # frames that could be decoded in the time of a seek
_OPEN_COST = 40  # same for opening a file; higher than measured, as the decoder is used again

_idle_decoders: list[VideoDecoder] = []  # most recently used last
_lock = threading.Lock()


@contextmanager
def open_decoder(index: VideoIndex, first_number: int) -> Iterator[VideoDecoder]:
    """Yield a decoder of this file for use by one thread, then keep it open as idle.

    Args:
        index: the index of the file.
        first_number: number of the first frame to decode.

    Raises:
        MediaError: the file cannot be read.
    """
    with wrap_ffmpeg_errors(index.path):
        decoder = _pop_idle_decoder(index, first_number) or VideoDecoder(index)
        try:
            yield decoder
        except BaseException:
            decoder.close()
            raise
        with _lock:
            _idle_decoders.append(decoder)
            surplus = [
                _idle_decoders.pop(0) for _ in range(len(_idle_decoders) - MAX_IDLE_DECODERS)
            ]
        for idle_decoder in surplus:
            idle_decoder.close()


def _pop_idle_decoder(index: VideoIndex, first_number: int) -> VideoDecoder | None:
    """Return the cheapest idle decoder for a frame, or None if a new one should be opened."""
    with _lock:
        # Compare by identity: the index is a new object if the file has changed.
        candidates = [decoder for decoder in _idle_decoders if decoder.index is index]
        nearest = min(
            candidates, key=lambda decoder: decoder.estimate_cost(first_number), default=None
        )
        if nearest is None:
            return None
        if nearest.estimate_cost(first_number) > _OPEN_COST and len(candidates) < MAX_IDLE_DECODERS:
            return None
        _idle_decoders.remove(nearest)
        return nearest


def _clear_idle_decoders() -> None:
    """Drop the idle decoders in a forked process: its parent still reads the open files."""
    global _lock
    _lock = threading.Lock()  # a thread that no longer exists may hold the old one
    _idle_decoders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_idle_decoders)


class VideoDecoder:
    """One open video file and its current position.

    Args:
        index: the index of the file.
    """

    def __init__(self, index: VideoIndex) -> None:
        self.index = index
        self._can_skip_nonref = index.codec in _NONREF_SKIP_CODECS and index.is_seekable
        self._can_seek = index.is_seekable
        self._key_pts: int | None = None  # time of the key frame sought, until it is decoded
        self._open()

    def decode_frames(self, frame_numbers: Sequence[int]) -> Iterator[VideoFrame]:
        """Yield the frames with these numbers, which must be in ascending order.

        Raises:
            MediaError: a frame cannot be decoded.
        """
        self._requested_pts = {self.index.pts[number] for number in frame_numbers}
        for number in frame_numbers:
            yield self._decode_frame(number)

    def estimate_cost(self, number: int) -> int:
        """Estimate the number of frames to decode to reach a frame."""
        if self._last_number is not None and self._is_near(number):
            return number - self._last_number
        keyframe = self.index.find_keyframe(number) if self._can_seek else 0
        return number - keyframe + _SEEK_COST

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _decode_frame(self, number: int) -> VideoFrame:
        from av.error import FFmpegError

        frame = None
        if self._is_near(number):
            frame = self._decode_until(number, self._can_skip_nonref)
        if frame is None and self._seek(number):
            with suppress(FFmpegError):  # decoding from the beginning may succeed
                frame = self._decode_until(number, self._can_skip_nonref)
        if frame is None:
            self.close()
            self._open()
            frame = self._decode_until(number, skip_nonref=False)
        if frame is None:
            raise MediaError(
                f"frame {number} of {self.index.path} cannot be decoded, though the file lists "
                f"{len(self.index.pts)} frames; copy or download it again, or leave this frame out"
            )
        return frame

    def _is_near(self, number: int) -> bool:
        """Return whether decoding forward reaches the frame and is cheaper than a seek."""
        index, last = self.index, self._last_number
        if last is None or last >= number:
            return False
        soon = min(last + _SEEK_COST, number)
        return not self._can_seek or index.find_key_index(number) <= index.find_key_index(soon)

    def _open(self) -> None:
        self._container = open_input(self.index.path)
        self._stream = find_video_stream(self._container, self.index.path)
        self._stream.codec_context.copy_opaque = True  # see `_decode_next`
        packets = self._container.demux(self._stream)
        self._reset_position(islice(packets, self.index.num_skipped, None), last=-1)

    def _seek(self, number: int) -> bool:
        """Seek to the key frame before a frame; return False if that is not possible."""
        from av.error import FFmpegError

        key = self.index.find_key_index(number) if self._can_seek else -1
        if key < 0:
            return False
        try:
            self._container.seek(self.index.key_seek_times[key], stream=self._stream)
        except FFmpegError:  # a container that does not support seeking
            return False
        self._reset_position(self._match_packets(), last=None)
        return True

    def _match_packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets after a seek from the first key frame on; stop if the index differs."""
        position = None
        for packet in self._container.demux(self._stream):
            if packet.size > 0:
                signature = sign_packet(packet)
                if position is None:
                    if not packet.is_keyframe:
                        continue
                    position = self.index.key_positions.get(signature, len(self.index.packets))
                    self._key_pts = packet.pts
                if self.index.packets[position : position + 1] != array("q", [signature]):
                    self._can_seek = False
                    return
                position += 1
            yield packet

    def _reset_position(self, packets: Iterator[Packet[VideoStream]], last: int | None) -> None:
        self._packets = packets
        self._key_pts = None
        self._buffered_frames: deque[VideoFrame] = deque()  # decoded but not yet examined
        self._last_number = last  # number of the frame before this position, if known
        self._num_decoded = 0  # frames decoded since then

    def _decode_until(self, number: int, skip_nonref: bool) -> VideoFrame | None:
        """Decode up to a frame; return None if it is missing or corrupt."""
        target = self.index.pts[number] if self.index.is_seekable else number
        self._last_number = None
        while (frame := self._decode_next(skip_nonref)) is not None:
            if self._key_pts is not None:  # the first frames after a seek
                if frame.pts is not None and frame.pts < self._key_pts:
                    continue  # it may refer to frames before the key frame
                if not frame.key_frame or frame.pts != self._key_pts:
                    self._can_seek = False
                    return None
                self._key_pts = None
            position = frame.pts if self.index.is_seekable else self._num_decoded - 1
            if position is None or position < target:
                continue
            if position > target or frame.is_corrupt:
                return None
            self._last_number = number
            return frame
        return None

    def _decode_next(self, skip_nonref: bool) -> VideoFrame | None:
        """Return the next frame in display order, or None at the end; skip damaged packets."""
        from av.error import InvalidDataError

        while not self._buffered_frames:
            packet = next(self._packets, None)
            if packet is None:
                return None
            skip = skip_nonref and packet.pts is not None and packet.pts not in self._requested_pts
            self._stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
            # FFmpeg hands this list on to the frame of the packet, which may come out later.
            packet.opaque = pixel_aspect = []
            try:
                self._buffered_frames.extend(packet.decode())
            except InvalidDataError:
                if not self.index.is_seekable:  # the frame count would be wrong
                    raise
            finally:
                pixel_aspect.append(self._stream.codec_context.sample_aspect_ratio)
        self._num_decoded += 1
        return self._buffered_frames.popleft()
