"""Frames do not depend on what was read before: in any container and codec that FFmpeg writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import av
import pytest
import torch
from av.format import ContainerFormat

from vqvideo.media import (
    MediaError,
    get_frame_indices,
    probe,
    read_video,
    video_decoder,
    video_layout,
)

SIZE = (24, 64)  # frames are compared at this size

# Cases that were wrong once, by mechanism; all others are under the marker "slow".
QUICK = {
    "program stream, times by the parser": ("a.mpg", {"codec": "mpeg1video", "rate": 25}),
    "program stream, few times": ("a.mpg", {}),
    "times in order of decoding": ("a.wmv", {"options": {"bf": "2"}}),
    "a neighbour's time after a seek": ("a.wmv", {"options": {"bf": "0"}}),
    "seeks that end behind a key frame": ("a.ts", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "frames marked as key frames": ("a.mov", {"codec": "rpza", "pix_fmt": "rgb555le"}),
    "raw with B-frames": ("a.m1v", {"codec": "mpeg1video", "rate": 25, "options": {"bf": "2"}}),
}


def read_small(path: Path, **chosen: object) -> torch.Tensor:
    return read_video(path, size=SIZE, **chosen).frames


def check_order_does_not_matter(path: Path, how_many: int, every: int = 1) -> torch.Tensor:
    """Read the frames in one pass, then alone, backwards, shuffled and by time; return the pass."""
    video_decoder._clear_idle_decoders()
    whole = read_small(path)
    assert whole.shape[1] == probe(path).num_frames == how_many
    orders = [list(range(0, how_many, every)) for _ in range(3)]
    orders[1].reverse()
    random.Random(0).shuffle(orders[2])
    for order in orders:
        video_decoder._clear_idle_decoders()
        for number in order:
            assert torch.equal(read_small(path, indices=[number])[:, 0], whole[:, number]), number
    for number, moment in find_middles(probe(path).pts_seconds, every):
        chosen = {"fps": 1000, "start_seconds": moment, "num_frames": 1}
        assert get_frame_indices(path, **chosen) == [number]
        assert torch.equal(read_small(path, **chosen)[:, 0], whole[:, number])
    return whole


def find_middles(times: tuple[float, ...], every: int) -> Iterator[tuple[int, float]]:
    """Numbers of frames and a moment at which each is shown, by looking at its neighbour."""
    for number in range(len(times) - 2, -1, -every):
        assert times[number] <= times[number + 1]
        if times[number + 1] - times[number] > 0.002:
            yield number, (times[number] + times[number + 1]) / 2 - times[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_frame_is_the_same_whatever_was_read_before(
    name: str, tmp_path: Path, encode, read_numbers
) -> None:
    file_name, how = QUICK[name]
    path = encode(tmp_path / file_name, **how)
    assert read_numbers(check_order_does_not_matter(path, 40, every=4)) == list(range(40))


# Muxers of protocols, playlists, checksums and still images.
NO_FILES = {
    *("alsa", "oss", "fbdev", "video4linux2,v4l2", "sap", "rtp", "rtp_mpegts", "rtsp", "whip"),
    *("tee", "fifo", "hls", "dash", "hds", "smoothstreaming", "segment", "stream_segment,ssegment"),
    *("null", "crc", "md5", "hash", "streamhash", "framecrc", "framemd5", "framehash"),
    *("uncodedframecrc", "ffmetadata", "webm_chunk", "webm_dash_manifest", "mkvtimestamp_v2"),
    *("image2", "image2pipe", "ico", "webp", "fits", "apv"),
}
SIZES = {"h263": (144, 176)}
B_FRAMES: dict[str, list[dict[str, str]]] = {
    "libx264": [{"bf": "0"}, {"x264-params": "b-adapt=0:bframes=3:open-gop=1:scenecut=0"}],
    **{codec: [{"bf": "0"}, {"bf": "2"}] for codec in ("mpeg1video", "mpeg2video", "mpeg4")},
}
FAST = {
    "libx264": {"preset": "ultrafast"},
    **{codec: {"cpu-used": "8", "deadline": "realtime"} for codec in ("libvpx", "libvpx-vp9")},
}
USUAL = {"mp4", "mov", "matroska", "webm", "mpegts", "mpeg", "vob", "avi", "asf", "flv", "mxf"}
USUAL |= {"nut", "ogg", "swf", "gxf", "ivf", "h264", "m4v", "mjpeg"}


# One codec for each way in which frames are coded and ordered: all of FFmpeg's take an hour. Not
# libx265, whose repeated small encodes in one process damage its memory.
CODECS = {
    *("libx264", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "h263", "flv", "wmv2", "ffv1"),
    *("libvpx", "libvpx-vp9", "rpza", "qtrle", "gif", "apng"),
}


def list_muxers() -> list[str]:
    def can_write(name: str) -> bool:
        try:
            return ContainerFormat(name, "w").is_output
        except ValueError:
            return False

    return sorted(name for name in av.formats_available - NO_FILES if can_write(name))


def list_encoders() -> Iterator[tuple[str, dict[str, str]]]:
    for codec in sorted(av.codecs_available & CODECS):
        try:
            is_video = av.Codec(codec, "w").type == "video"
        except ValueError:  # a decoder
            continue
        if is_video:
            for options in B_FRAMES.get(codec, [{}]):
                yield codec, {"strict": "-2", **FAST.get(codec, {}), **options}


def try_to_write(
    path: Path, muxer: str, codec: str, options: dict[str, str], make_frame: Callable
) -> bool:
    """Write 60 numbered frames; return whether FFmpeg can."""
    formats = [f.name for f in av.Codec(codec, "w").video_formats or []] or ["yuv420p"]
    usual = ("yuv420p", "yuvj420p", "rgb24", "yuv422p")
    pix_fmt = next((name for name in formats if name in usual), formats[0])
    height, width = (480, 720) if muxer in ("gxf", "dv") else SIZES.get(codec, (96, 128))
    try:
        with av.open(str(path), "w", format=muxer) as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
            stream.options, stream.gop_size = options, 12
            for number in range(60):
                frame = av.VideoFrame.from_ndarray(make_frame(number, height, width))
                frame = frame.reformat(format=pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError, TypeError, NotImplementedError):
        return False
    return path.exists() and path.stat().st_size > 0


def is_decoded_whole(path: Path, read_numbers: Callable) -> bool:
    """Whether FFmpeg itself, from head to end, finds the 60 frames that were written, undamaged.

    Some muxers write what no demuxer understands, such as H.263 in a program stream.
    """
    numbers = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                numbers += [-1] if frame.is_corrupt else read_numbers(pixels[:, None] / 127.5 - 1)
    except (av.FFmpegError, ValueError, IndexError):
        return False  # such as pixels without a header
    return numbers == list(range(60))


@pytest.mark.slow
@pytest.mark.parametrize("muxer", list_muxers())
def test_frames_of_every_container_and_codec_do_not_depend_on_the_order(
    muxer: str, tmp_path: Path, make_frame, read_numbers
) -> None:
    num_files = 0
    for codec, options in list_encoders():
        path = tmp_path / f"{codec}{num_files}.video"
        if not try_to_write(path, muxer, codec, options, make_frame):
            continue
        if is_decoded_whole(path, read_numbers):
            try:
                probe(path)
            except MediaError as error:  # a still image or a GIF without its last byte
                assert "image" in str(error) or "truncated" in str(error), (codec, options)
                continue
            whole = check_order_does_not_matter(path, 60, every=7)
            assert read_numbers(whole) == list(range(60)), (codec, options)
            num_files += 1
        path.unlink()
    assert num_files or muxer not in USUAL


REPEATED = [*range(0, 1000, 40), 1003, *range(1500, 11000, 400)]  # ms; 1000 appears twice
REPEATED_TICKS = [time * 10 for time in REPEATED[:25]] + [10000, 10003]
REPEATED_TICKS += [time * 10 for time in REPEATED[26:]]


def test_one_repeated_time_leaves_the_others_as_they_are(
    tmp_path: Path, encode, read_numbers
) -> None:
    """Matroska counts milliseconds, so two frames 0.3 ms apart get the same time."""
    path = encode(tmp_path / "a.mkv", len(REPEATED_TICKS), pts=REPEATED_TICKS, rate=10_000)
    info = probe(path)
    assert list(info.pts_seconds) == pytest.approx([t // 10 / 1000 for t in REPEATED_TICKS])
    assert info.pts_seconds.count(1.0) == 2
    assert info.duration == pytest.approx(10.7, abs=0.4)
    assert info.fps == pytest.approx((info.num_frames - 1) / info.pts_seconds[-1])
    assert read_numbers(check_order_does_not_matter(path, info.num_frames, every=2)) == list(
        range(info.num_frames)
    )
    assert get_frame_indices(path, 1, start_seconds=1, num_frames=1) == [26]  # the later of two


@pytest.mark.parametrize("name", ["a.h264", "a.wmv", "a.mpg"])
def test_files_without_display_times_have_the_times_of_their_rate(
    name: str, tmp_path: Path, encode
) -> None:
    info = probe(encode(tmp_path / name, rate=50, options={"bf": "2"}))
    assert info.fps == pytest.approx(50)
    steps = [later - time for time, later in pairwise(info.pts_seconds)]
    assert steps == pytest.approx([1 / 50] * 39, abs=2e-3)
    assert info.duration == pytest.approx(40 / 50, abs=2e-3)


CUT_CODECS = ("libx264", "libx265", "mpeg2video", "mpeg4")
HEALTHY = ("a.mp4", "a.mkv", "a.ts", "a.mov", "a.flv", "a.nut")


@pytest.mark.parametrize(
    ("codec", "start"),
    [
        ("mpeg4", 14),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in product(CUT_CODECS, (3, 12, 23))),
    ],
)
def test_a_recording_that_starts_between_key_frames_starts_at_the_first(
    codec: str, start: int, tmp_path: Path, encode, read_numbers
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"bf": "2"}
    whole = encode(tmp_path / "whole.ts", codec=codec, options=options)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        position = packets[start].pos
        key_pts = next(p.pts for p in packets[start:] if p.is_keyframe)
        first = sorted(p.pts for p in packets).index(key_pts)
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.read_bytes()[position:])
    numbers = read_numbers(check_order_does_not_matter(path, 40 - first, every=3))
    assert numbers == list(range(first, 40))


@pytest.mark.parametrize(
    ("name", "b_frames"),
    [
        *(("a.mp4", "2"), ("a.mkv", "2"), ("a.ts", "2")),
        *(pytest.param(name, "0", marks=pytest.mark.slow) for name in HEALTHY),
        *(pytest.param(name, "2", marks=pytest.mark.slow) for name in HEALTHY[3:]),
    ],
)
def test_healthy_files_are_indexed_and_read_without_decoding_the_rest(
    name: str, b_frames: str, tmp_path: Path, encode, read_numbers, monkeypatch
) -> None:
    how = {"bf": b_frames, "x264-params": "scenecut=0", "preset": "ultrafast"}
    path = encode(tmp_path / name, 120, options=how)
    limits, decode_times = [], video_layout._decode_times
    monkeypatch.setattr(
        video_layout,
        "_decode_times",
        lambda file, skip, limit: limits.append(limit) or decode_times(file, skip, limit),
    )
    assert probe(path).num_frames == 120
    assert limits == [1]
    num_decoded, decode_next = [], video_decoder.VideoDecoder._decode_next
    monkeypatch.setattr(
        video_decoder.VideoDecoder,
        "_decode_next",
        lambda self, skip: num_decoded.append(1) or decode_next(self, skip),
    )
    for number in (113, 46, 5, 90, 49, 15):
        assert read_numbers(read_video(path, [number]).frames) == [number]
    assert len(num_decoded) < 6 * 16


@pytest.mark.parametrize("default", [0, 1, None])
def test_the_default_stream_is_read_else_the_first(
    default: int | None, tmp_path: Path, make_frame
) -> None:
    path, flags = tmp_path / "a.mkv", av.stream.Disposition
    with av.open(str(path), "w") as container:
        sizes = [(48, 64), (24, 32)]
        streams = [container.add_stream("ffv1", rate=10) for _ in sizes]
        for number, (stream, (height, width)) in enumerate(zip(streams, sizes, strict=True)):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.disposition = flags.default if number == default else flags.dub
        for number in range(5):
            for stream, size in zip(streams, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(make_frame(number, *size))
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert (probe(path).height, probe(path).width) == sizes[default or 0]
    assert read_video(path, [3]).frames.shape[2:] == sizes[default or 0]
