"""Reading video: every frame carries its number as bars, so that none can pass for another."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo.media import MediaError, probe, read_video, write_audio, write_video

NUM_BARS = 8


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 `[h, w, 3]`: bar b from the left is bright where bit b of the number is set.

    The lowest quarter is darker, so that upside down is not the same.
    """
    pixels = np.full((height, width, 3), 30, np.uint8)
    for bar in range(NUM_BARS):
        if number >> bar & 1:
            pixels[:, bar * width // NUM_BARS : (bar + 1) * width // NUM_BARS] = 220
    pixels[height * 3 // 4 :] //= 4
    return pixels


def numbers(frames: torch.Tensor) -> list[int]:
    """The number each frame of a float `[3, t, h, w]` carries."""
    _, num_frames, height, width = frames.shape
    middles = [(2 * bar + 1) * width // (2 * NUM_BARS) for bar in range(NUM_BARS)]
    bright = frames[1, :, height // 2][:, middles] > 0
    return [sum(2**bar for bar in range(NUM_BARS) if bright[t, bar]) for t in range(num_frames)]


def encode(
    path: Path,
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int = 10,
    size: tuple[int, int] = (48, 64),
    pts: list[int] | None = None,
    rotation: float | None = None,
    aspect: Fraction | None = None,
    mirror: bool = False,
) -> Path:
    """A video of numbered frames at 10 frames per second, written without vqvideo."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt, stream.options, stream.gop_size = pix_fmt, options or {}, gop
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirror)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def trim(source: Path, target: Path, first: int) -> Path:
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


FORMATS = {
    "h264 with B-frames": ("a.mp4", {}),
    "one key frame only": ("a.mp4", {"gop": 250}),
    "open groups of pictures": ("a.mkv", {"options": {"x264-params": "open-gop=1"}}),
    "open groups in mp4": ("a.mp4", {"options": {"x264-params": "open-gop=1"}}),
    "intra refresh": ("a.mkv", {"options": {"x264-params": "intra-refresh=1"}}),
    "deep colours": ("a.mp4", {"codec": "libx264", "pix_fmt": "yuv420p10le"}),
    "odd size": ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (47, 65)}),
    "gray": ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "0"}}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "transport stream": ("a.ts", {}),
    "avi without B-frames": ("a.avi", {"codec": "mpeg4"}),
    "avi with B-frames": ("a.avi", {}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_frame_read_alone_is_the_frame_of_the_whole_video(name: str, tmp_path: Path) -> None:
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    height, width = how.get("size", (48, 64))
    whole = read_video(path, backend="pyav")
    assert numbers(whole.frames) == list(range(40))
    assert whole.frames.shape == (3, 40, height, width)
    assert whole.frames.dtype == torch.float32
    assert whole.frames.abs().max() <= 1
    for number in (39, 0, 10, 9, 11, 21, 18, 29):
        alone = read_video(path, [number], backend="pyav").frames
        assert torch.equal(alone[:, 0], whole.frames[:, number]), number
    scattered = read_video(path, [35, 2, 2, 3, 30], backend="pyav").frames
    assert torch.equal(scattered, whole.frames[:, [35, 2, 2, 3, 30]])


@pytest.mark.parametrize("name", FORMATS)
def test_auto_gives_the_frames_of_pyav_for_every_format(name: str, tmp_path: Path) -> None:
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    wanted = [39, 3, 4, 20]
    auto, pyav = read_video(path, wanted), read_video(path, wanted, backend="pyav")
    assert torch.equal(auto.frames, pyav.frames)
    assert auto.fps == pyav.fps


@pytest.mark.parametrize("name", ["h264 with B-frames", "one key frame only", "vp9"])
@pytest.mark.parametrize("size", [None, (32, 32)])
def test_both_backends_give_the_same_bytes_on_a_plain_file(
    name: str, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    pytest.importorskip("decord")
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    clips = [read_video(path, range(5, 39), size=size, backend=b) for b in ("decord", "pyav")]
    assert torch.equal(clips[0].frames, clips[1].frames)


def test_probe_says_when_each_frame_is_shown(tmp_path: Path) -> None:
    info = probe(encode(tmp_path / "a.mp4"))
    assert info.path == tmp_path / "a.mp4"
    assert (info.num_frames, info.height, info.width, info.codec) == (40, 48, 64, "h264")
    assert info.fps == 10
    assert info.seconds == pytest.approx([n / 10 for n in range(40)])


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    pts = [n * n for n in range(12)]
    for name in ("a.mp4", "a.mkv"):
        path = encode(tmp_path / name, 12, pts=pts)
        info = probe(path)
        assert info.seconds == pytest.approx([n / 10 for n in pts], abs=1e-3)
        assert info.fps == pytest.approx(11 / 12.1, rel=0.1)
        assert numbers(read_video(path, [11, 4, 5]).frames) == [11, 4, 5]


def test_frames_hidden_by_an_edit_list_do_not_exist(tmp_path: Path) -> None:
    path = trim(encode(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", first=14)
    assert probe(path).num_frames == 26
    assert probe(path).seconds[0] == 0
    for backend in ("auto", "pyav"):
        assert numbers(read_video(path, backend=backend).frames) == list(range(14, 40))
        assert numbers(read_video(path, [25, 0, 7], backend=backend).frames) == [39, 14, 21]
    with pytest.raises(IndexError, match="has 26 frames"):
        read_video(path, [26])


def test_decord_is_refused_where_it_miscounts(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = trim(encode(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", first=14)
    with pytest.raises(
        MediaError, match=r"trimmed\.mp4 .*decord: it counts 32 .*file has 26.*auto"
    ):
        read_video(path, backend="decord")


def test_decord_is_refused_where_its_times_are_wrong(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match=r"it shows frame 0 at 0\.0 s"):
        read_video(encode(tmp_path / "a.ts"), backend="decord")


def test_a_video_may_have_one_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 1)
    clip = read_video(path)
    assert (clip.frames.shape, clip.fps) == ((3, 1, 48, 64), 10)
    assert probe(path).seconds == (0,)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(rotation: int, mirror: bool, tmp_path: Path) -> None:
    plain = read_video(encode(tmp_path / "plain.mp4", 8)).frames
    path = encode(tmp_path / "turned.mp4", 8, rotation=rotation, mirror=mirror)
    expected = torch.rot90(plain, rotation // 90, dims=(2, 3))  # counterclockwise
    expected = expected.flip(3) if mirror else expected  # as shown, left and right change places
    turned = read_video(path).frames
    assert torch.equal(turned, expected)
    assert (probe(path).height, probe(path).width) == tuple(turned.shape[2:])
    assert torch.equal(read_video(path, [5]).frames[:, 0], turned[:, 5])


def test_a_crooked_rotation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"rotated by .*multiples of 90"):
        probe(encode(tmp_path / "a.mp4", 2, rotation=30))


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 4, aspect=Fraction(3, 2))
    assert (probe(path).height, probe(path).width) == (48, 96)
    clip = read_video(path)
    assert clip.frames.shape == (3, 4, 48, 96)
    assert numbers(clip.frames) == [0, 1, 2, 3]
    half = read_video(path, size=(24, 48)).frames  # the same proportions: nothing is cut
    assert numbers(half) == [0, 1, 2, 3]


def test_slices_and_tensors_choose_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    assert numbers(read_video(path, slice(4, None, 5)).frames) == [4, 9, 14, 19]
    assert numbers(read_video(path, slice(-2, None)).frames) == [18, 19]
    assert numbers(read_video(path, torch.tensor([3, 1])).frames) == [3, 1]


def test_frames_that_do_not_exist_are_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    with pytest.raises(
        IndexError, match=r"frame 20 is out of range: .*a\.mp4 has 20 frames, 0 to 19"
    ):
        read_video(path, [3, 20])
    with pytest.raises(IndexError, match="frame -1"):
        read_video(path, [-1])
    with pytest.raises(ValueError, match="no frames asked for"):
        read_video(path, [])
    with pytest.raises(ValueError, match="no frames asked for"):
        read_video(path, slice(20, None))
    with pytest.raises(TypeError):
        read_video(path, [1.5])


def test_wrong_options_are_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 2)
    with pytest.raises(ValueError, match="'auto', 'decord' or 'pyav', got 'cv2'"):
        read_video(path, backend="cv2")
    with pytest.raises(ValueError, match="'crop', 'pad' or 'refuse', got 'stretch'"):
        read_video(path, fit="stretch")
    with pytest.raises(ValueError, match="size must be"):
        read_video(path, size=(0, 4))
    with pytest.raises(ValueError, match=r"48x64 .*expected 24x24"):
        read_video(path, size=(24, 24), fit="refuse")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
@pytest.mark.parametrize("keep", [0.3, 0.98])
def test_a_file_that_is_cut_off_is_refused(name: str, keep: float, tmp_path: Path) -> None:
    how = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if name == "a.webm" else {}
    data = encode(tmp_path / f"whole_{name}", 20, **how).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * keep)])
    for read in (probe, read_video):
        with pytest.raises(MediaError, match=rf"{name} is cut off: .*download it again"):
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
    with pytest.raises(MediaError, match=r"cut\.mp4 is (cut off|damaged)"):
        probe(tmp_path / "cut.mp4")


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_a_frame_that_cannot_be_decoded_is_named(backend: str, tmp_path: Path) -> None:
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
    assert numbers(read_video(path, [3, 12, 22, 31], backend=backend).frames) == [3, 12, 22, 31]


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 5)
    assert probe(path).num_frames == 5
    assert probe(encode(path, 9)).num_frames == 9


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("a line of text\n" * 40)
    write_audio(tmp_path / "sound.wav", torch.zeros(1, 800), 8000)
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        container.add_stream("libx264", rate=10)
        container.start_encoding()
    expected = {
        ".": "is a folder, not a file",
        "empty.mp4": r"empty\.mp4 is empty \(zero bytes\)",
        "text.mp4": r"text\.mp4 cannot be read as video",
        "sound.wav": r"sound\.wav has no video stream \(it holds: audio\)",
        "still.png": r"still\.png is a still image.*read_image",
        "none.mp4": r"none\.mp4 ",
    }
    for name, message in expected.items():
        for read in (probe, read_video):
            with pytest.raises(MediaError, match=message):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4 does not exist"):
        probe(tmp_path / "nothing.mp4")


def test_a_name_with_a_colon_is_a_name(tmp_path: Path) -> None:
    path = encode(tmp_path / "plain.mp4", 3).rename(tmp_path / "clip: 1 & only.mp4")
    assert numbers(read_video(path).frames) == [0, 1, 2]
