"""Videos of numbered frames: every frame carries its number as bars, so none passes for another."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

NUM_BARS = 8


def _make_frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 `[h, w, 3]`: bar b from the left is bright where bit b of the number is set.

    The lowest quarter is darker, so that upside down is not the same.
    """
    pixels = np.full((height, width, 3), 30, np.uint8)
    for bar in range(NUM_BARS):
        if number >> bar & 1:
            pixels[:, bar * width // NUM_BARS : (bar + 1) * width // NUM_BARS] = 220
    pixels[height * 3 // 4 :] //= 4
    return pixels


def _read_numbers(frames: torch.Tensor) -> list[int]:
    """The number each frame of a float `[3, t, h, w]` carries."""
    _, num_frames, height, width = frames.shape
    middles = [(2 * bar + 1) * width // (2 * NUM_BARS) for bar in range(NUM_BARS)]
    bright = frames[1, :, height // 2][:, middles] > 0
    return [sum(2**bar for bar in range(NUM_BARS) if bright[t, bar]) for t in range(num_frames)]


def _encode(
    path: Path,
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int = 10,
    rate: int = 10,
    size: tuple[int, int] = (48, 64),
    pts: list[int] | None = None,
    rotation: float | None = None,
    aspect: Fraction | None = None,
    mirror: bool = False,
) -> Path:
    """A video of numbered frames, written without vqvideo; `pts` count frames."""
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg cannot write {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt, stream.options, stream.gop_size = pix_fmt, options or {}, gop
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirror)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(_make_frame(number, *size), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _trim(source: Path, target: Path, first: int) -> Path:
    """Copy packets from a key frame on, and let an edit list hide those before `first`."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        start = int(Fraction(first, 10) / stream.time_base)
        key = max(p.pts for p in old.demux(stream) if p.is_keyframe and p.pts <= start)
        old.seek(key, stream=stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                new.mux(packet)
    return target


def _decode_plainly(path: Path) -> np.ndarray:
    """uint8 `[t, h, w, 3]`: every frame, from head to end, by PyAV alone."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., np.ndarray]:
    """`make_frame(number, height=48, width=64)`: uint8 `[h, w, 3]`."""
    return _make_frame


@pytest.fixture(scope="session")
def read_numbers() -> Callable[[torch.Tensor], list[int]]:
    """`numbers(frames)`: the number each frame carries."""
    return _read_numbers


@pytest.fixture(scope="session")
def encode() -> Callable[..., Path]:
    """`encode(path, num_frames=40, ...)`: a file of numbered frames, written without vqvideo."""
    return _encode


@pytest.fixture(scope="session")
def trim() -> Callable[..., Path]:
    """`trim(source, target, first)`: a copy whose edit list hides the frames before `first`."""
    return _trim


@pytest.fixture(scope="session")
def decode_plainly() -> Callable[[Path], np.ndarray]:
    """`decode_plainly(path)`: uint8 `[t, h, w, 3]`, by the simplest loop there is."""
    return _decode_plainly
