"""Frames whose size, shape, rotation or colours change in mid-stream: each is read as its own.

A file is joined from two parts. Each of its frames must be the frame that its part alone gives.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import ColorRange, Colorspace

from vqvideo.media import MediaError, read_video, read_video_chunks, to_uint8

LENGTH = 8  # frames of a part
STREAMS = {  # name of the file, codec, options of the codec
    "h264": ("a.h264", "libx264", {}),
    "mpeg4": ("a.m4v", "mpeg4", {"bf": "2"}),
    "mjpeg": ("a.mjpeg", "mjpeg", {}),
}
FIRST: dict[str, Any] = {"size": (48, 64)}
CHANGES: dict[str, dict[str, Any]] = {
    "height": {"size": (32, 64)},
    "both sides": {"size": (64, 80)},
    "upright": {"size": (80, 32)},
    "pixel aspect": {"size": (48, 64), "aspect": Fraction(2, 1)},
    "size and pixel aspect": {"size": (32, 48), "aspect": Fraction(1, 2)},
    "pixel format": {"size": (48, 64), "pix_fmt": "yuv444p"},
    "size and color range": {"size": (32, 64), "pix_fmt": "yuvj420p"},
    "rotation": {"size": (48, 64), "rotate": 90},
}
CASES = [
    *(("h264", change) for change in CHANGES),
    ("mpeg4", "pixel aspect"),  # at another size, its decoder drops the last frame before
    *(("mjpeg", change) for change in ("upright", "pixel format")),
]


def draw_disc(number: int, height: int, width: int) -> np.ndarray:
    """A white disc of 24 pixels in the middle of a dark picture, uint8 `[h, w, 3]`."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.hypot(y - height / 2, x - width / 2) < 12
    return np.where(inside[..., None], 240, 10 + 8 * number).repeat(3, 2).astype(np.uint8)


def write_part(
    path: Path,
    codec: str,
    options: dict[str, str],
    *,
    size: tuple[int, int],
    aspect: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    rotate: int | None = None,
) -> bytes:
    with av.open(str(path), "w", format=path.suffix[1:]) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = (
            ColorRange.JPEG if "j" in pix_fmt + codec else ColorRange.MPEG
        )
        stream.pix_fmt = pix_fmt.replace("yuv4", "yuvj4") if codec == "mjpeg" else pix_fmt
        stream.options = options
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        turn = (
            None
            if rotate is None
            else BitStreamFilterContext(f"h264_metadata=rotate={rotate}", in_stream=stream)
        )
        for number in [*range(LENGTH), None]:
            frame = None
            if number is not None:
                frame = av.VideoFrame.from_ndarray(draw_disc(number, *size), format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet if turn is None else turn.filter(packet))
    return path.read_bytes()


Join = Callable[[str, str], tuple[Path, Path, Path]]


@pytest.fixture
def join(tmp_path: Path) -> Join:
    def join(stream: str, change: str) -> tuple[Path, Path, Path]:
        name, codec, options = STREAMS[stream]
        parts = [tmp_path / f"{part}_{name}" for part in ("first", "second")]
        whole = tmp_path / f"whole_{name}"
        data = [
            write_part(path, codec, options, **how)
            for path, how in zip(parts, (FIRST, CHANGES[change]), strict=True)
        ]
        whole.write_bytes(b"".join(data))
        return whole, parts[0], parts[1]

    return join


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "change"), CASES)
def test_each_frame_is_that_of_its_part_alone(stream: str, change: str, join: Join) -> None:
    whole, *parts = join(stream, change)
    for size, fit in (((40, 56), "crop"), ((6, 40), "pad")):
        expected = torch.cat([read_video(p, size=size, fit=fit).frames for p in parts], dim=1)
        frames = read_video(whole, size=size, fit=fit).frames
        assert torch.equal(frames, expected), (size, fit)
        for wanted in ([LENGTH - 1], [2 * LENGTH - 1, LENGTH, 0]):
            again = read_video(whole, wanted, size=size, fit=fit).frames
            assert torch.equal(again, frames[:, wanted])
        chunks = list(read_video_chunks(whole, frames_per_chunk=5, size=size, fit=fit))
        assert torch.equal(torch.cat(chunks, dim=1), frames)


@pytest.mark.parametrize("change", CHANGES)
def test_a_disc_stays_round_in_every_frame(change: str, join: Join) -> None:
    whole = join("h264", change)[0]
    wide = CHANGES[change].get("aspect", 1)
    for number, stretch in ((2, 1), (LENGTH + 5, wide)):
        bright = read_video(whole, [number], size=(100, 100), fit="pad").frames[0, 0] > 0
        high, long = int(bright.any(1).sum()), int(bright.any(0).sum())
        assert long == pytest.approx(high * float(stretch), abs=3)


@pytest.mark.parametrize("change", ["height", "pixel aspect", "pixel format", "rotation"])
def test_refuse_refuses_the_frame_that_differs_by_its_number(change: str, join: Join) -> None:
    whole, _, second = join("h264", change)
    height, width = read_video(second).frames.shape[2:]
    if (height, width) == FIRST["size"]:
        assert read_video(whole, fit="refuse").frames.shape[1] == 2 * LENGTH
        return
    message = rf"frame {LENGTH} of .*whole_a\.h264: image is {height}x{width} .*expected 48x64"
    for size in (None, (48, 64)):
        assert read_video(whole, range(LENGTH), size=size, fit="refuse").frames.shape[1] == LENGTH
        with pytest.raises(ValueError, match=message):
            read_video(whole, size=size, fit="refuse")
        with pytest.raises(ValueError, match=message):
            list(read_video_chunks(whole, frames_per_chunk=4, size=size, fit="refuse"))


def test_without_a_size_frames_are_fitted_to_the_first(join: Join) -> None:
    whole, _, second = join("h264", "height")
    frames = read_video(whole).frames
    assert torch.equal(frames, read_video(whole, size=(48, 64)).frames)
    assert torch.equal(frames[:, LENGTH:], read_video(second, size=(48, 64)).frames)


def test_decord_is_refused_where_the_size_changes(join: Join) -> None:
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match=r"whole_a\.h264 cannot be read with decord"):
        read_video(join("h264", "height")[0], backend="decord", size=(48, 64))


@pytest.mark.parametrize("codec", ["mjpeg", "libvpx-vp9"])
def test_packets_of_another_size_in_a_container_are_read_as_their_own(
    codec: str, tmp_path: Path
) -> None:
    """As the browsers' recorders write them when a window changes."""
    sizes, path = [(48, 64), (64, 32)], tmp_path / "a.mkv"
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        for part, size in enumerate(sizes):
            context = av.CodecContext.create(codec, "w") if part else stream.codec_context
            context.height, context.width = size
            context.pix_fmt, context.framerate = pix_fmt, 10
            context.time_base = Fraction(1, 10)
            if codec == "libvpx-vp9":
                context.options = {"cpu-used": "8", "lag-in-frames": "0"}
            for number in [*range(LENGTH), None]:
                frame = None
                if number is not None:
                    frame = av.VideoFrame.from_ndarray(draw_disc(number, *size), format="rgb24")
                    frame = frame.reformat(format=pix_fmt)
                    frame.pts = part * LENGTH + number
                    frame.time_base = Fraction(1, 10)
                for packet in context.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    frames = read_video(path, size=(100, 100), fit="pad").frames
    assert frames.shape[1] == 2 * LENGTH
    for number in range(2 * LENGTH):
        bright = to_uint8(frames[0, number]) > 150
        assert abs(int(bright.any(1).sum()) - int(bright.any(0).sum())) <= 2, number
    with pytest.raises(ValueError, match=r"frame 8 of .*a\.mkv: image is 64x32"):
        read_video(path, fit="refuse")
