"""Write videos: MP4 that plays in a browser, and lossless files.

MP4 is H.264 with 4:2:0 chroma subsampling and its index at the front. There is a key frame every
16 frames, so that seeking is fast. Colours are BT.601 and tagged as such, so that all players show
the same. Frames may be given in chunks, so that a video need not fit into memory. The same input
gives the same bytes, and a file appears under its name only when it is complete.

Not here: GIF and WebP (animation.py), images and contact sheets (image.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor

from vqvideo.media.audio import Audio, check_audio
from vqvideo.media.files import PathLike, output_file
from vqvideo.media.pixels import ImageSize, check_no_nan, to_uint8
from vqvideo.media.timestamps import check_fps

if TYPE_CHECKING:
    from av import Packet
    from av.audio.frame import AudioFrame
    from av.bitstream import BitStreamFilterContext
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Frames = Tensor | Iterable[Tensor]
"""`[3, t, h, w]` in [-1, 1], or an iterable of chunks `[3, n, h, w]` of it in order."""

# The number of threads changes the bytes. So does x264's macroblock tree, whose vector code
# reads uninitialized memory (observed with B-frames at small sizes; not with asm=0).
_DETERMINISTIC_OPTIONS = {"threads": "1", "x264-params": "mbtree=0"}
# x264 stores its version and settings in the first frame, which can be larger than a small clip.
_REMOVE_SEI_FILTER = "filter_units=remove_types=6"
_MAX_FPS_DENOMINATOR = 100_000  # of a frame rate; 1001 is the largest in use
_AAC_FRAME_SIZE = 1024  # samples per audio frame
_AAC_BIT_RATE = 128_000

WRITERS_HINT = (
    "write_video writes .mp4, write_lossless .mkv, .apng and .png, write_gif .gif, write_webp .webp"
)


def write_video(
    path: PathLike,
    frames: Frames,
    fps: float,
    *,
    audio: Audio | None = None,
    overwrite: bool = False,
    crf: int = 16,
    keyframe_interval: int = 16,
) -> None:
    """Write frames, and optionally audio, as an H.264 MP4 file.

    H.264 with 4:2:0 chroma needs even sizes: an odd height or width is padded by one pixel, a
    copy of the last row or column. Audio is compressed as AAC and starts with the first frame;
    it may end before or after the last.

    Args:
        path: must end in .mp4.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of such tensors, each the next
            frames of one video; values outside are clamped.
        fps: frames per second.
        audio: mono audio; None writes a silent video.
        overwrite: replace an existing file.
        crf: constant rate factor from 0 (best) to 51; 16 is visually close to lossless.
        keyframe_interval: maximum number of frames from one key frame to the next.

    Raises:
        ValueError: wrong suffix or shape, no frames, NaN, or a rate or quality out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av
    from av.bitstream import BitStreamFilterContext
    from av.video.reformatter import ColorRange, Colorspace

    (height, width), images = validate_frames(frames, fps)
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must lie in 0..51, got {crf}")
    if keyframe_interval < 1:
        raise ValueError(f"keyframe_interval must be at least 1, got {keyframe_interval}")
    if audio is not None:
        _check_aac(audio)
    with (
        output_file(path, suffixes=(".mp4",), overwrite=overwrite, hint=WRITERS_HINT) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=_to_fraction(fps))
        stream.options = {"crf": str(crf), **_DETERMINISTIC_OPTIONS}
        stream.gop_size = keyframe_interval
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        sei_filter = BitStreamFilterContext(_REMOVE_SEI_FILTER, in_stream=stream)
        _encode(container, stream, map(_to_yuv_frame, images), audio, sei_filter)


def write_lossless(path: PathLike, frames: Frames, fps: float, *, overwrite: bool = False) -> None:
    """Write frames losslessly: `read_video` returns exactly `to_uint8(frames)`.

    Args:
        path: must end in .mkv for FFV1 in Matroska, or in .apng or .png for an animated PNG, which
            browsers display and whose checksums reveal a single bit flip.
        frames: `[3, t, h, w]` in [-1, 1], or an iterable of such tensors, each the next
            frames of one video; values outside are clamped.
        fps: frames per second.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong suffix or shape, no frames, NaN, or a rate out of range.
        FileExistsError: the file exists and `overwrite` is false.
    """
    import av

    (height, width), images = validate_frames(frames, fps)
    suffixes = (".mkv", ".apng", ".png")
    with output_file(path, suffixes=suffixes, overwrite=overwrite, hint=WRITERS_HINT) as temporary:
        options = {"fflags": "+bitexact"}  # do not store the version of FFmpeg
        if temporary.suffix == ".mkv":
            codec, pix_fmt, muxer = "ffv1", "bgr0", "matroska"
        else:
            codec, pix_fmt, muxer = "apng", "rgb24", "apng"
            options["plays"] = "0"  # loop forever
        with av.open(str(temporary), "w", format=muxer, options=options) as container:
            stream = cast("VideoStream", container.add_stream(codec, rate=_to_fraction(fps)))
            stream.options, stream.pix_fmt = {"threads": "1"}, pix_fmt
            stream.height, stream.width = height, width
            rgb = map(_to_rgb_frame, images)
            _encode(container, stream, (frame.reformat(format=pix_fmt) for frame in rgb))


def _to_fraction(fps: float) -> Fraction:
    """Return the frame rate as a fraction: 30000/1001 for 29.97002997."""
    return Fraction(fps).limit_denominator(_MAX_FPS_DENOMINATOR)


def validate_frames(frames: Frames, fps: float) -> tuple[ImageSize, Iterator[Tensor]]:
    """Return (height, width) and an iterator over the frames, float32 `[3, h, w]` on the CPU.

    The first chunk is checked immediately, later ones during the iteration.

    Raises:
        ValueError: wrong shape or dtype, no frames, NaN, or a rate out of range.
    """
    check_fps(fps, minimum=1 / _MAX_FPS_DENOMINATOR)
    chunks = iter([frames] if isinstance(frames, Tensor) else frames)
    first = next(chunks, None)
    if first is None:
        raise ValueError("there is nothing to write: frames have no chunk")
    _check_chunk(first, first, 0)
    return (first.shape[2], first.shape[3]), _iter_frames(chain([first], chunks), first)


def _iter_frames(chunks: Iterable[Tensor], first: Tensor) -> Iterator[Tensor]:
    start = 0
    for chunk in chunks:
        _check_chunk(chunk, first, start)
        start += chunk.shape[1]
        yield from chunk.detach().float().cpu().unbind(1)


def _check_chunk(chunk: Tensor, first: Tensor, start: int) -> None:
    if chunk.ndim != 4 or chunk.shape[0] != 3:
        raise ValueError(f"frames must be [3, t, h, w], got {list(chunk.shape)}")
    if chunk.numel() == 0:
        raise ValueError(f"there is nothing to write: frames are {list(chunk.shape)}")
    if chunk.shape[2:] != first.shape[2:]:
        raise ValueError(
            f"all frames of a video must have one size: the first chunk is {list(first.shape)}, "
            f"that from frame {start} on is {list(chunk.shape)}"
        )
    if not chunk.is_floating_point():
        raise ValueError(f"frames must be floats in [-1, 1], got {chunk.dtype}; use from_uint8")
    check_no_nan(chunk, "frame", dim=1, offset=start)


def _encode(
    container: OutputContainer,
    stream: VideoStream,
    frames: Iterator[VideoFrame],
    audio: Audio | None = None,
    bitstream_filter: BitStreamFilterContext | None = None,
) -> None:
    """Encode frames and audio and write the packets interleaved by time."""
    rate = float(stream.codec_context.framerate)
    timed_frames = ((i / rate, frame) for i, frame in enumerate(frames))

    def encode(frame: VideoFrame | None) -> Sequence[Packet[Any]]:
        packets = stream.encode(frame)
        return (
            packets
            if bitstream_filter is None
            else [filtered for packet in packets for filtered in bitstream_filter.filter(packet)]
        )

    tracks = [_encode_packets(encode, timed_frames)]
    if audio is not None:
        track = container.add_stream("aac", rate=audio.sample_rate, layout="mono")
        track.bit_rate = min(_AAC_BIT_RATE, 6 * audio.sample_rate)  # the maximum of AAC
        tracks.append(_encode_packets(track.encode, _iter_audio_frames(audio)))
    for _, packets in heapq.merge(*tracks, key=itemgetter(0)):
        container.mux(packets)


def _encode_packets(
    encode: Callable[[Any], Sequence[Packet[Any]]], frames: Iterable[tuple[float, Any]]
) -> Iterator[tuple[float, Sequence[Packet[Any]]]]:
    """Yield the time in seconds and the packets of each frame, then flush the encoder."""
    seconds = 0.0
    for seconds, frame in frames:
        yield seconds, encode(frame)
    yield seconds, encode(None)


def _check_aac(audio: Audio) -> None:
    from av.codec import Codec

    check_audio(audio.samples, audio.sample_rate)
    rates = Codec("aac", "w").audio_rates or []
    if audio.sample_rate not in rates:
        raise ValueError(
            f"audio in MP4 must have one of the rates {', '.join(map(str, sorted(rates)))} Hz, "
            f"got {audio.sample_rate}; resample it"
        )


def _iter_audio_frames(audio: Audio) -> Iterator[tuple[float, AudioFrame]]:
    """Yield AAC-sized frames of audio and the time in seconds at which each starts."""
    import av

    samples = audio.samples.detach().float().cpu().clamp(-1, 1)
    for start in range(0, samples.shape[1], _AAC_FRAME_SIZE):
        block = samples[:, start : start + _AAC_FRAME_SIZE].contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = audio.sample_rate, start
        yield start / audio.sample_rate, frame


def _to_rgb_frame(frame: Tensor) -> VideoFrame:
    """Convert float `[3, h, w]` to an RGB frame."""
    import av

    pixels = to_uint8(frame).permute(1, 2, 0).contiguous().numpy()
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def _to_yuv_frame(frame: Tensor) -> VideoFrame:
    """Convert float `[3, h, w]` to a YUV frame of even size."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    height, width = frame.shape[1:]
    padded = F.pad(frame, (0, width % 2, 0, height % 2), mode="replicate")
    return _to_rgb_frame(padded).reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
