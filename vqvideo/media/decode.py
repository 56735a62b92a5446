"""Decoding: the frame with a given number, exactly, and no more work than it takes.

A `Decoder` is one open file that remembers where it stands. It goes forward when the next
wanted frame lies ahead without a key frame of its own, else it jumps to the key frame
before it. On the way, frames that no other frame refers to (most B-frames) are not
decoded. Where that does not deliver the frame, for key frames need not stand alone, it
decodes everything from the head of the file: slow, and always right.

The decoders used last stay open in each process, at most `MAX_IDLE` of them. A file with few
key frames may have several, at different places, so that one of them stands not far before
the next clip. A decoder in use is not among them, so no two threads ever share one.

Not here: which frames a file has (index.py), their colours and sizes (video.py).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vqvideo.media.files import MediaError, naming_errors, open_input
from vqvideo.media.index import VideoIndex, video_stream

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_IDLE = 4

# Codecs whose "nothing refers to this frame" holds for every later frame. In HEVC it
# holds within a temporal layer only.
_SKIPS_EXACTLY = {"h264", "mpeg4", "mpeg2video"}

_WORTH_A_JUMP = 8  # frames; seeking costs about as much as decoding so many
_WORTH_ANOTHER = 40  # frames; so does opening a file, and it may pay again

_idle: list[Decoder] = []  # the one used last at the end
_lock = threading.Lock()


@contextmanager
def decoder_of(index: VideoIndex, first: int) -> Iterator[Decoder]:
    """A decoder of this file, for one thread until the block ends; then it stays open for a while.

    Args:
        index: the index of the file.
        first: number of the frame wanted first.

    Raises:
        MediaError: the file cannot be read.
    """
    with naming_errors(index.path):
        decoder = _take_idle(index, first) or Decoder(index)
        try:
            yield decoder
        except BaseException:
            decoder.close()
            raise
        with _lock:
            _idle.append(decoder)
            surplus = [_idle.pop(0) for _ in range(len(_idle) - MAX_IDLE)]
        for old in surplus:
            old.close()


def _take_idle(index: VideoIndex, first: int) -> Decoder | None:
    """The idle decoder with the shortest way to a frame, unless another one is worth opening."""
    with _lock:
        own = [decoder for decoder in _idle if decoder.index is index]  # of the file as it is now
        nearest = min(own, key=lambda decoder: decoder.distance(first), default=None)
        if nearest is None:
            return None
        if nearest.distance(first) > _WORTH_ANOTHER and len(own) < MAX_IDLE:
            return None
        _idle.remove(nearest)
        return nearest


def _forget_idle() -> None:
    """In a process that was forked: its parent goes on reading the open files."""
    global _lock
    _lock = threading.Lock()  # a thread that no longer exists may hold the old one
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_idle)


class Decoder:
    """One open video file and the place it stands at.

    Args:
        index: the index of the file.
    """

    def __init__(self, index: VideoIndex) -> None:
        self.index = index
        self._skips = index.codec in _SKIPS_EXACTLY and not index.counted
        self._open()

    def frames(self, wanted: Sequence[int]) -> Iterator[VideoFrame]:
        """The frames with these numbers, which must ascend.

        Raises:
            MediaError: one of them cannot be decoded.
        """
        self._wanted = {self.index.pts[number] for number in wanted}
        for number in wanted:
            yield self._frame(number)

    def distance(self, number: int) -> int:
        """About how many frames must be decoded to get to one."""
        if self._last is not None and self._is_near(number):
            return number - self._last
        return number - self.index.key_frame_before(number) + _WORTH_A_JUMP

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _frame(self, number: int) -> VideoFrame:
        frame = None
        if self._is_near(number):
            frame = self._forward_to(number, self._skips)
        if frame is None and self._seek(number):
            frame = self._forward_to(number, self._skips)
        if frame is None:
            self.close()
            self._open()
            frame = self._forward_to(number, skips=False)
        if frame is None:
            raise MediaError(
                f"frame {number} of {self.index.path} cannot be decoded, though the file lists "
                f"{len(self.index.pts)} frames; copy or download it again, or leave this frame out"
            )
        return frame

    def _is_near(self, number: int) -> bool:
        """Whether going forward gets there, and no key frame is worth a jump."""
        index, last = self.index, self._last
        if last is None or last >= number:
            return False
        soon = min(last + _WORTH_A_JUMP, number)
        return index.counted or index.key_before(number) <= index.key_before(soon)

    def _open(self) -> None:
        self._container = open_input(self.index.path)
        self._stream = video_stream(self._container, self.index.path)
        self._start_here(last=-1)

    def _seek(self, number: int) -> bool:
        """Stand at the key frame before a frame; False where there is none to stand at."""
        from av.error import FFmpegError

        key = -1 if self.index.counted else self.index.key_before(number)
        if key < 0:
            return False
        try:
            self._container.seek(self.index.key_pts[key], stream=self._stream)
        except FFmpegError:  # a container that can only be read from its head
            return False
        self._start_here(last=None)
        return True

    def _start_here(self, last: int | None) -> None:
        self._packets = self._container.demux(self._stream)
        self._decoded: deque[VideoFrame] = deque()  # out of the decoder, not yet looked at
        self._last = last  # number of the frame before this place, where known
        self._count = 0  # frames seen since

    def _forward_to(self, number: int, skips: bool) -> VideoFrame | None:
        """Decode up to a frame; None if it does not come, or not whole."""
        place = number if self.index.counted else self.index.pts[number]
        self._last = None
        while (frame := self._next(skips)) is not None:
            here = self._count - 1 if self.index.counted else frame.pts
            if here is None or here < place:
                continue
            if here > place or frame.is_corrupt:
                return None
            self._last = number
            return frame
        return None

    def _next(self, skips: bool) -> VideoFrame | None:
        """The next frame in display order; a damaged packet yields none, and the next follow."""
        from av.error import InvalidDataError

        while not self._decoded:
            packet = next(self._packets, None)
            if packet is None:
                return None
            unwanted = skips and packet.pts is not None and packet.pts not in self._wanted
            self._stream.codec_context.skip_frame = "NONREF" if unwanted else "DEFAULT"
            try:
                self._decoded.extend(packet.decode())
            except InvalidDataError:
                if self.index.counted:  # counting would go wrong
                    raise
        self._count += 1
        return self._decoded.popleft()
