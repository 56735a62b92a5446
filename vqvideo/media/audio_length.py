"""Read the declared length of an audio file: bytes of MP3, samples of FLAC, WavPack and MP4.

Compressed audio consists of frames of one size: the first ones hold the encoder delay, the last
one is padded. FFmpeg removes the delay, and the padding of MP3 and Opus; the padding of MP4 and
M4A is computed here.

Not here: containers that declare their size in bytes (declared_size.py).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_ID3V1_BYTES = 128  # a tag at the end that some encoders count and some programs remove
_ID3_HEADER = re.compile(rb"ID3[\x02-\x04]\x00[\x00-\xff][\x00-\x7f]{4}", re.DOTALL)
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags in the Xing header of an MP3 file
_EXACT_DURATION_DEMUXERS = ("flac", "wv", "tta", "nistsphere")


def split_mp3(data: bytes) -> list[bytes]:
    """Split joined MP3 files, each of which may begin with an ID3v2 tag.

    A tag in the middle of a stream is not audio, and every part has its own encoder delay.
    """
    starts, position = [0], _get_id3_size(data)
    while match := _ID3_HEADER.search(data, position):
        starts.append(match.start())
        position = match.start() + _get_id3_size(data[match.start() : match.end()])
    parts = [data[start:stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    # The last one may be a tag alone: ID3v2.4 allows it at the end, perhaps before an ID3v1 tag.
    has_audio = len(parts[-1]) > _get_id3_size(parts[-1]) + _ID3V1_BYTES
    return parts if has_audio or len(parts) == 1 else parts[:-1]


def read_mp3_size(data: bytes) -> int:
    """Return the minimum size in bytes that an MP3 file declares, or 0 if it declares none.

    Encoders write a first frame without audio, marked Xing or Info, with the number of frames
    and bytes. Only files of constant bit rate may lack it.
    """
    start = _get_id3_size(data)
    frame = data[start : start + 64]
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return 0
    flags, first, second = struct.unpack(">III", frame[tag + 4 : tag + 16])
    if not flags & _HAS_BYTES:
        return 0
    num_bytes: int = second if flags & _HAS_FRAMES else first
    return start + num_bytes - _ID3V1_BYTES


def _get_id3_size(data: bytes) -> int:
    """Return the size in bytes of the ID3v2 tag at the start, or 0 if there is none."""
    if not _ID3_HEADER.match(data):
        return 0
    a, b, c, d = data[6:10]  # 7 bits each
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def compute_num_samples(container: InputContainer, stream: AudioStream) -> int:
    """Return the number of samples that a header declares exactly, or 0 if none does."""
    if container.format.name not in _EXACT_DURATION_DEMUXERS:
        return 0
    return round((stream.duration or 0) * float(stream.time_base or 0) * stream.rate)


def count_padding_samples(
    container: InputContainer, last_frame: AudioFrame, num_decoded: int
) -> int:
    """Return the number of padding samples in the last frame of an MP4 file.

    The duration of the stream is no help: it is rounded to milliseconds.

    Args:
        container: the file, opened by FFmpeg.
        last_frame: the last decoded frame.
        num_decoded: number of samples in all decoded frames.
    """
    if "mp4" not in container.format.name:
        return 0
    num_valid = round(
        last_frame.duration * float(last_frame.time_base or 0) * last_frame.sample_rate
    )
    if 0 < num_valid < last_frame.samples:
        return last_frame.samples - num_valid
    excess = num_decoded - _parse_itunes_num_samples(container.metadata.get("iTunSMPB", ""))
    return excess if 0 < excess < last_frame.samples else 0  # padding is shorter than a frame


def _parse_itunes_num_samples(tag: str) -> int:
    """Return the number of samples in an `iTunSMPB` tag, its fourth hexadecimal field, or 0."""
    fields = tag.split()
    try:
        return int(fields[3], 16) if len(fields) > 3 else 0
    except ValueError:
        return 0
