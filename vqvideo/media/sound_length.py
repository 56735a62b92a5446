"""How long a sound file says it is: bytes of MP3, samples of what FFmpeg opened.

Compressed sound comes in frames of one size: the first ones hold what the encoder needed to
start, the last one is filled up. FFmpeg takes away the former, and the latter of MP3 and Opus;
that of MP4 and M4A is found here.

Not here: containers that say how many bytes they hold (length.py).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_ID3V1_BYTES = 128  # a tag after the sound that some encoders count and some programs take away
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags of what follows in the head of an MP3 file


def declared_mp3_bytes(file: Path) -> int:
    """How long an MP3 file must at least be, as its first frame says; 0 where it does not.

    Encoders write a first frame without sound, marked Xing or Info, with the number of frames
    and bytes. Only files of constant bit rate do without it.
    """
    with file.open("rb") as stream:
        start = 0
        head = stream.read(10)
        if head[:3] == b"ID3" and len(head) == 10:  # a tag; its length has 7 bits a byte
            a, b, c, d = head[6:]
            start = 10 + (a << 21 | b << 14 | c << 7 | d)
        stream.seek(start)
        frame = stream.read(64)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return 0
    flags, first, second = struct.unpack(">III", frame[tag + 4 : tag + 16])
    if not flags & _HAS_BYTES:
        return 0
    num_bytes: int = second if flags & _HAS_FRAMES else first
    return start + num_bytes - _ID3V1_BYTES


def declared_flac_samples(stream: AudioStream) -> int:
    """Samples of a FLAC file as its head says; 0 where it does not."""
    return round((stream.duration or 0) * float(stream.time_base or 0) * stream.rate)


def trailing_samples(container: InputContainer, last: AudioFrame, num_decoded: int) -> int:
    """How many of the samples of an MP4 file are only there to fill its last frame.

    The length of the stream does not tell: it is rounded to milliseconds.

    Args:
        container: opened by FFmpeg.
        last: the last frame decoded.
        num_decoded: samples of all of them.
    """
    if "mp4" not in container.format.name:
        return 0
    lasts = round(last.duration * float(last.time_base or 0) * last.sample_rate)
    if 0 < lasts < last.samples:
        return last.samples - lasts
    excess = num_decoded - _itunes_samples(container.metadata.get("iTunSMPB", ""))
    return excess if 0 < excess < last.samples else 0  # more than that is not padding


def _itunes_samples(tag: str) -> int:
    """How many samples a tag of iTunes counts: the fourth of its hexadecimal numbers; or 0."""
    fields = tag.split()
    try:
        return int(fields[3], 16) if len(fields) > 3 else 0
    except ValueError:
        return 0
