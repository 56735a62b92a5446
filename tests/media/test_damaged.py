"""Files that are damaged or no video at all: each is refused by name, none is read wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from vqvideo.media import MediaError, probe, read_video, write_audio, write_video, write_webp

CODECS = {
    "a.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "a.apng": {"codec": "apng", "pix_fmt": "rgb24"},
}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", *CODECS])
@pytest.mark.parametrize("keep", [0.3, 0.98])
def test_a_file_that_is_cut_off_is_refused(name: str, keep: float, tmp_path: Path, encode) -> None:
    data = encode(tmp_path / f"whole_{name}", 20, **CODECS.get(name, {})).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * keep)])
    for read in (probe, read_video):
        with pytest.raises(MediaError, match=rf"{name} is truncated: .*download it again"):
            read(tmp_path / name)


def test_a_fast_start_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", torch.rand(3, 20, 32, 32), 10)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:-5])
    with pytest.raises(
        MediaError, match=rf"declares {len(data)} bytes, the file has {len(data) - 5}"
    ):
        probe(tmp_path / "cut.mp4")


def test_a_list_of_frames_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    """The boxes of the file are whole, but its table points beyond the end."""
    write_video(tmp_path / "whole.mp4", torch.rand(3, 20, 32, 32), 10)
    data = (tmp_path / "whole.mp4").read_bytes()
    box = data.index(b"mdat") - 4
    size = struct.unpack(">I", data[box : box + 4])[0] // 2
    (tmp_path / "cut.mp4").write_bytes(
        data[:box] + struct.pack(">I", size) + data[box + 4 :][: size - 4]
    )
    with pytest.raises(MediaError, match=r"cut\.mp4 is (truncated|damaged)"):
        probe(tmp_path / "cut.mp4")


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_a_frame_that_cannot_be_decoded_is_named(
    backend: str, tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", options={"bf": "0"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][23]
        start, stop = packet.pos + 5, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    assert probe(path).num_frames == 40
    with pytest.raises(
        MediaError, match=r"frame 23 of .*a\.mp4 cannot be decoded.*lists 40 frames"
    ):
        read_video(path, range(20, 30), backend=backend)
    assert read_numbers(read_video(path, [3, 12, 22, 31], backend=backend).frames) == [
        3,
        12,
        22,
        31,
    ]


def test_a_frame_decoded_in_part_is_refused(tmp_path: Path) -> None:
    """The decoder fills the rest with something likely, and says so."""
    path = tmp_path / "a.mp4"
    noise = torch.rand(3, 20, 96, 128, generator=torch.manual_seed(0)) * 2 - 1
    write_video(path, noise, 10, crf=30)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][9]
        number = round(packet.pts * packet.time_base * 10)
        middle, stop = packet.pos + packet.size // 2, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[middle:stop] = bytes(stop - middle)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=rf"frame {number} of .*a\.mp4 cannot be decoded"):
        read_video(path)


@pytest.mark.parametrize("name", ["a.gif", "a.apng"])
def test_bytes_after_the_end_do_no_harm(name: str, tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / name, 20, **CODECS[name])
    path.write_bytes(path.read_bytes() + bytes(50))
    assert read_numbers(read_video(path).frames) == list(range(20))


def test_one_flipped_bit_in_an_animated_png_is_found(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.apng", 20, **CODECS["a.apng"])
    data = bytearray(path.read_bytes())
    data[data.rindex(b"fdAT") + 20] ^= 1  # inside the pixels of the last frame
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"frame 19 of .*a\.apng cannot be decoded"):
        read_video(path)


def test_a_codec_nobody_knows_is_refused(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mkv", 3)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ"))
    with pytest.raises(MediaError, match=r"a\.mkv has a video codec that FFmpeg does not support"):
        probe(path)


def test_names_in_the_file_that_are_no_text_do_no_harm(
    tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", 3)
    data = path.read_bytes()
    assert data.count(b"VideoHandler") == 1
    path.write_bytes(data.replace(b"VideoHandler", b"VideoHandl\xf2r"))
    assert read_numbers(read_video(path).frames) == [0, 1, 2]


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("a line of text\n" * 40)
    write_audio(tmp_path / "sound.wav", torch.zeros(1, 800), 8000)
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    write_webp(tmp_path / "moving.webp", torch.zeros(3, 2, 8, 8), 10)
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        container.add_stream("libx264", rate=10)
        container.start_encoding()
    expected = {
        ".": "is a folder, expected a file; give the path of one file in it",
        "empty.mp4": r"empty\.mp4 is empty \(zero bytes\)",
        "text.mp4": r"text\.mp4 cannot be read as video",
        "sound.wav": r"sound\.wav has no video stream \(its streams: audio\)",
        "still.png": r"still\.png is a still image.*read_image",
        "moving.webp": r"moving\.webp is .* an animated WebP, .*convert an animation to \.apng",
        "none.mp4": r"none\.mp4 ",
    }
    for name, message in expected.items():
        for read in (probe, read_video):
            with pytest.raises(MediaError, match=message):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4 does not exist"):
        probe(tmp_path / "nothing.mp4")
