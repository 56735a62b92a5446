"""Videos for data sets, whose frames are as bright as their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest
from torch import Tensor

SIZE = (16, 24)
LEVELS = 60  # frame numbers that brightness can tell apart


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch) -> Path:
    """A folder of its own for the lengths of files."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VQVIDEO_CACHE", str(folder))
    return folder


def _write(path: Path, read_numbers: range, fps: int = 8) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = SIZE
        stream.pix_fmt, stream.gop_size = "yuv420p", 1
        for number in read_numbers:
            frame = av.VideoFrame(SIZE[1], SIZE[0], "yuv420p")
            values = (16 + 219 * number / LEVELS, 128, 128)
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _read_numbers(x: Tensor) -> list[int]:
    return ((x.mean(dim=(0, 2, 3)) + 1) / 2 * LEVELS).round().int().tolist()


def _corrupt_frame(path: Path, number: int) -> Path:
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        start, stop = packet.pos + 5, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def write_numbers() -> Callable[..., Path]:
    """`write_numbers(path, range(20, 30), fps=8)`: a video of key frames that are so bright."""
    return _write


@pytest.fixture(scope="session")
def read_numbers() -> Callable[[Tensor], list[int]]:
    """`numbers(x)`: the numbers of the frames of a window `[3, t, h, w]`."""
    return _read_numbers


@pytest.fixture(scope="session")
def corrupt_frame() -> Callable[..., Path]:
    """`break_frame(path, 3)`: the file still lists frame 3, which cannot be decoded any more."""
    return _corrupt_frame
