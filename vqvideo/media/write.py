"""Writing video: MP4 that plays in a browser, and lossless files that give every byte back.

MP4 is H.264 with 4:2:0 colours and its index at the front, a key frame every 16 frames so
that reading from the middle is quick. Its colours are BT.601 and say so, so that every player
shows the same. Frames may come in pieces, so that a video need not fit into memory. The same
input gives the same bytes, and a file appears under its name only when it is complete.

Not here: GIF and WebP (animation.py), pictures of clips (image.py).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.audio import Sound, check_sound
from vqvideo.media.files import PathLike, output_file
from vqvideo.media.pixels import Size, check_values, to_uint8

if TYPE_CHECKING:
    from av import Packet
    from av.audio.frame import AudioFrame
    from av.bitstream import BitStreamFilterContext
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Frames = Tensor | Iterable[Tensor]
"""`[3, t, h, w]` in [-1, 1], or pieces `[3, n, h, w]` of it, taken one after another."""

# The number of threads changes the bytes; so does x264's macroblock tree, whose vector code
# reads memory it never wrote (seen with B-frames at small sizes; gone with asm=0 as well).
_REPEATABLE = {"threads": "1", "x264-params": "mbtree=0"}
# x264 writes its version and settings into the first frame: more bytes than a small clip takes.
_WITHOUT_NAME = "filter_units=remove_types=6"
_FINEST_RATE = 100_000  # largest denominator of a frame rate; 1001 is the largest in use
_AAC_SAMPLES = 1024  # in each frame of sound
_AAC_BIT_RATE = 128_000

OTHER_WRITERS = (
    "write_video writes .mp4, write_lossless .mkv, .apng and .png, write_gif .gif, write_webp .webp"
)


def write_video(
    path: PathLike,
    frames: Frames,
    fps: float,
    *,
    sound: Sound | None = None,
    overwrite: bool = False,
    crf: int = 16,
    keyframe_interval: int = 16,
) -> None:
    """Write frames, and sound with them, as an H.264 MP4 file.

    H.264 in these colours has even sizes only: an odd height or width gains one pixel, a
    copy of the last row or column. Sound is compressed too (AAC) and begins with the first
    frame; it may end before or after the last.

    Args:
        path: must end in .mp4.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of such tensors, each the next
            frames of one video; values outside are clamped.
        fps: frames per second.
        sound: None writes a silent video.
        overwrite: replace a file that exists.
        crf: quality from 0 (best) to 51; 16 is hard to tell from the original.
        keyframe_interval: at most so many frames from one key frame to the next.

    Raises:
        ValueError: another ending or shape, no frames, NaN, a rate or quality out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av
    from av.bitstream import BitStreamFilterContext
    from av.video.reformatter import ColorRange, Colorspace

    (height, width), pictures = checked_pictures(frames, fps)
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must lie in 0..51, got {crf}")
    if keyframe_interval < 1:
        raise ValueError(f"keyframe_interval must be at least 1, got {keyframe_interval}")
    if sound is not None:
        _check_aac(sound)
    with (
        output_file(path, suffixes=(".mp4",), overwrite=overwrite, hint=OTHER_WRITERS) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=_exact_rate(fps))
        stream.options = {"crf": str(crf), **_REPEATABLE}
        stream.gop_size = keyframe_interval
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        unnamed = BitStreamFilterContext(_WITHOUT_NAME, in_stream=stream)
        _encode(container, stream, map(_yuv_frame, pictures), sound, unnamed)


def write_lossless(path: PathLike, frames: Frames, fps: float, *, overwrite: bool = False) -> None:
    """Write frames so that `read_video` gives back every byte of `to_uint8(frames)`.

    Args:
        path: ends in .mkv for FFV1 in Matroska, or in .apng or .png for an animated PNG, which
            browsers show and in which a single flipped bit is found when it is read.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of such tensors, each the next
            frames of one video; values outside are clamped.
        fps: frames per second.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another ending or shape, no frames, NaN, or a rate out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av

    (height, width), pictures = checked_pictures(frames, fps)
    suffixes = (".mkv", ".apng", ".png")
    with output_file(path, suffixes=suffixes, overwrite=overwrite, hint=OTHER_WRITERS) as temporary:
        options = {"fflags": "+bitexact"}  # no version of FFmpeg in the file
        if temporary.suffix == ".mkv":
            codec, colours, muxer = "ffv1", "bgr0", "matroska"
        else:
            codec, colours, muxer = "apng", "rgb24", "apng"
            options["plays"] = "0"  # for ever
        with av.open(str(temporary), "w", format=muxer, options=options) as container:
            stream = cast("VideoStream", container.add_stream(codec, rate=_exact_rate(fps)))
            stream.options, stream.pix_fmt = {"threads": "1"}, colours
            stream.height, stream.width = height, width
            rgb = map(_rgb_frame, pictures)
            _encode(container, stream, (frame.reformat(format=colours) for frame in rgb))


def _exact_rate(fps: float) -> Fraction:
    """The fraction meant by a rate: 30000/1001 for 29.97002997."""
    return Fraction(fps).limit_denominator(_FINEST_RATE)


def checked_pictures(frames: Frames, fps: float) -> tuple[Size, Iterator[Tensor]]:
    """(height, width), and one by one the pictures, float32 `[3, h, w]` on the CPU.

    What is wrong with the first piece is said at once, with a later one when its turn comes.
    """
    if not (math.isfinite(fps) and fps >= 1 / _FINEST_RATE):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    pieces = iter([frames] if isinstance(frames, Tensor) else frames)
    first = next(pieces, None)
    if first is None:
        raise ValueError("there is nothing to write: frames hold no piece")
    _check_piece(first, first, 0)
    return (first.shape[2], first.shape[3]), _pictures(chain([first], pieces), first)


def _pictures(pieces: Iterable[Tensor], first: Tensor) -> Iterator[Tensor]:
    start = 0
    for piece in pieces:
        _check_piece(piece, first, start)
        start += piece.shape[1]
        yield from piece.detach().float().cpu().unbind(1)


def _check_piece(piece: Tensor, first: Tensor, start: int) -> None:
    if piece.ndim != 4 or piece.shape[0] != 3:
        raise ValueError(f"frames must be [3, t, h, w], got {list(piece.shape)}")
    if piece.numel() == 0:
        raise ValueError(f"there is nothing to write: frames are {list(piece.shape)}")
    if piece.shape[2:] != first.shape[2:]:
        raise ValueError(
            f"all frames of a video have one size: the first piece is {list(first.shape)}, "
            f"that of frame {start} is {list(piece.shape)}"
        )
    if not piece.is_floating_point():
        raise ValueError(f"frames must be floats in [-1, 1], got {piece.dtype}; use from_uint8")
    check_values(piece, "frame", axis=1, first=start)


def _encode(
    container: OutputContainer,
    stream: VideoStream,
    pictures: Iterator[VideoFrame],
    sound: Sound | None = None,
    filtered: BitStreamFilterContext | None = None,
) -> None:
    """Write pictures and sound in the order of their times, so that players read straight on."""
    rate = float(stream.codec_context.framerate)
    timed = ((number / rate, picture) for number, picture in enumerate(pictures))

    def encode(picture: VideoFrame | None) -> Sequence[Packet[Any]]:
        packets = stream.encode(picture)
        return (
            packets if filtered is None else [p for each in packets for p in filtered.filter(each)]
        )

    tracks = [_packets(encode, timed)]
    if sound is not None:
        track = container.add_stream("aac", rate=sound.sample_rate, layout="mono")
        track.bit_rate = min(_AAC_BIT_RATE, 6 * sound.sample_rate)  # AAC allows no more
        tracks.append(_packets(track.encode, _blocks(sound)))
    for _, packets in heapq.merge(*tracks, key=itemgetter(0)):
        container.mux(packets)


def _packets(
    encode: Callable[[Any], Sequence[Packet[Any]]], frames: Iterable[tuple[float, Any]]
) -> Iterator[tuple[float, Sequence[Packet[Any]]]]:
    """Encode frames with their seconds; what the encoder held back comes at the last one."""
    seconds = 0.0
    for seconds, frame in frames:
        yield seconds, encode(frame)
    yield seconds, encode(None)


def _check_aac(sound: Sound) -> None:
    from av.codec import Codec

    check_sound(sound.samples, sound.sample_rate)
    rates = Codec("aac", "w").audio_rates or []
    if sound.sample_rate not in rates:
        raise ValueError(
            f"sound in MP4 has one of the rates {', '.join(map(str, sorted(rates)))} Hz, "
            f"got {sound.sample_rate}; resample it"
        )


def _blocks(sound: Sound) -> Iterator[tuple[float, AudioFrame]]:
    """Sound in frames as AAC takes them, with the second each begins at."""
    import av

    samples = sound.samples.detach().float().cpu().clamp(-1, 1)
    for start in range(0, samples.shape[1], _AAC_SAMPLES):
        block = samples[:, start : start + _AAC_SAMPLES].contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sound.sample_rate, start
        yield start / sound.sample_rate, frame


def _rgb_frame(picture: Tensor) -> VideoFrame:
    """Float `[3, h, w]` to an RGB frame."""
    import av

    pixels = to_uint8(picture).permute(1, 2, 0).contiguous().numpy()
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def _yuv_frame(picture: Tensor) -> VideoFrame:
    """Float `[3, h, w]` to a YUV frame of even size."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    height, width = picture.shape[1:]
    even = F.pad(picture, (0, width % 2, 0, height % 2), mode="replicate")
    return _rgb_frame(even).reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
