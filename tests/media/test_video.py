"""Reading video: every frame carries its number as bars, so that none can pass for another."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vqvideo.media import MediaError, from_uint8, probe, read_video, to_uint8
from vqvideo.media.pixels import resize

X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:bframes=3:b-adapt=0"}
FORMATS = {
    "h264 with B-frames": ("a.mp4", {}),
    "one key frame only": ("a.mp4", {"gop": 250}),
    "open groups of pictures": ("a.mkv", {"options": {"x264-params": "open-gop=1"}}),
    "open groups in mp4": ("a.mp4", {"options": {"x264-params": "open-gop=1"}}),
    "intra refresh": ("a.mkv", {"options": {"x264-params": "intra-refresh=1"}}),
    "deep colours": ("a.mp4", {"codec": "libx264", "pix_fmt": "yuv420p10le"}),
    "odd size": ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (47, 65)}),
    "gray": ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
    "mpeg4 with B-frames": ("a.mp4", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "mpeg2 with B-frames": ("a.mkv", {"codec": "mpeg2video", "options": {"bf": "2"}}),
    "hevc with 10 bits": ("a.mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": X265}),
    "av1": ("a.mp4", {"codec": "libsvtav1", "options": {"preset": "12"}}),
    "alpha in quicktime": ("a.mov", {"codec": "qtrle", "pix_fmt": "argb"}),
    "alpha in ffv1": ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuva420p"}),
    "animated png with alpha": ("a.apng", {"codec": "apng", "pix_fmt": "rgba"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "0"}}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "transport stream": ("a.ts", {}),
    "avi without B-frames": ("a.avi", {"codec": "mpeg4"}),
    "avi with B-frames": ("a.avi", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_any_frame_read_alone_is_the_frame_of_a_plain_decoder(
    name: str, tmp_path: Path, encode, read_numbers, decode_plainly
) -> None:
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    expected = from_uint8(torch.from_numpy(decode_plainly(path)).permute(3, 0, 1, 2))
    whole = read_video(path)
    assert read_numbers(whole.frames) == list(range(40))
    assert whole.frames.dtype == torch.float32
    assert torch.equal(whole.frames, expected)
    for wanted in ([39], [0], [10], [9], [11], [13], [21], [18], [22], [35, 2, 2, 3, 30]):
        assert torch.equal(read_video(path, wanted).frames, expected[:, wanted]), wanted


@pytest.mark.parametrize("name", FORMATS)
def test_a_frame_made_small_is_the_same_whatever_was_read_before(
    name: str, tmp_path: Path, encode
) -> None:
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    whole = read_video(path, size=(24, 20)).frames
    for wanted in ([30], [3, 33], [34], [7, 8]):
        assert torch.equal(read_video(path, wanted, size=(24, 20)).frames, whole[:, wanted])


@pytest.mark.parametrize("name", ["h264 with B-frames", "one key frame only", "vp9"])
def test_decord_gives_the_same_frames_and_small_ones_within_rounding(
    name: str, tmp_path: Path, encode
) -> None:
    pytest.importorskip("decord")
    file_name, how = FORMATS[name]
    path = encode(tmp_path / file_name, **how)
    for size, bound in ((None, 0), ((32, 32), 4)):
        clips = [
            to_uint8(read_video(path, range(5, 39), size=size, backend=backend).frames).int()
            for backend in ("decord", "pyav")
        ]
        assert (clips[0] - clips[1]).abs().max() <= bound


@pytest.mark.parametrize("source", [(48, 64), (70, 50)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_small_frames_are_near_those_of_a_careful_resize(
    fit: str, source: tuple[int, int], tmp_path: Path, encode, decode_plainly
) -> None:
    path = encode(tmp_path / "a.mp4", 3, size=source, pix_fmt="yuv444p", options={"crf": "4"})
    full = torch.from_numpy(decode_plainly(path)).permute(0, 3, 1, 2).contiguous()
    expected = resize(full, (24, 20), fit).int().transpose(0, 1)
    small = to_uint8(read_video(path, size=(24, 20), fit=fit).frames).int()
    assert small.shape == (3, 3, 24, 20)
    assert (small - expected).abs().max() <= 8


def test_probe_says_when_each_frame_is_shown(tmp_path: Path, encode) -> None:
    info = probe(encode(tmp_path / "a.mp4"))
    assert info.path == tmp_path / "a.mp4"
    assert (info.num_frames, info.height, info.width, info.codec) == (40, 48, 64, "h264")
    assert info.fps == 10
    assert info.pts_seconds == pytest.approx([n / 10 for n in range(40)])


def test_uneven_times_are_kept(tmp_path: Path, encode, read_numbers) -> None:
    pts = [n * n for n in range(12)]
    for name in ("a.mp4", "a.mkv"):
        path = encode(tmp_path / name, 12, pts=pts)
        info = probe(path)
        assert info.pts_seconds == pytest.approx([n / 10 for n in pts], abs=1e-3)
        assert info.fps == pytest.approx(11 / 12.1, rel=0.1)
        assert read_numbers(read_video(path, [11, 4, 5]).frames) == [11, 4, 5]


def test_frames_hidden_by_an_edit_list_do_not_exist(
    tmp_path: Path, encode, read_numbers, trim
) -> None:
    path = trim(encode(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", first=14)
    assert probe(path).num_frames == 26
    assert probe(path).pts_seconds[0] == 0
    for backend in ("auto", "pyav"):
        assert read_numbers(read_video(path, backend=backend).frames) == list(range(14, 40))
        assert read_numbers(read_video(path, [25, 0, 7], backend=backend).frames) == [39, 14, 21]
    with pytest.raises(IndexError, match="has 26 frames"):
        read_video(path, [26])


def test_decord_is_refused_where_it_miscounts(tmp_path: Path, encode, trim) -> None:
    pytest.importorskip("decord")
    path = trim(encode(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", first=14)
    with pytest.raises(
        MediaError, match=r"trimmed\.mp4 .*decord: it counts 32 .*file has 26.*pyav"
    ):
        read_video(path, backend="decord")


def test_decord_is_refused_where_its_times_are_wrong(tmp_path: Path, encode) -> None:
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match=r"it displays frame 0 at 0\.0 s"):
        read_video(encode(tmp_path / "a.ts"), backend="decord")


def test_a_video_may_have_one_frame(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 1)
    clip = read_video(path)
    assert (clip.frames.shape, clip.fps) == ((3, 1, 48, 64), 10)
    assert probe(path).pts_seconds == (0,)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(rotation: int, mirror: bool, tmp_path: Path, encode) -> None:
    plain = read_video(encode(tmp_path / "plain.mp4", 8)).frames
    path = encode(tmp_path / "turned.mp4", 8, rotation=rotation, mirror=mirror)
    expected = torch.rot90(plain, rotation // 90, dims=(2, 3))  # counterclockwise
    expected = expected.flip(3) if mirror else expected  # as shown, left and right change places
    turned = read_video(path).frames
    assert torch.equal(turned, expected)
    assert (probe(path).height, probe(path).width) == tuple(turned.shape[2:])
    assert torch.equal(read_video(path, [5]).frames[:, 0], turned[:, 5])


def test_a_crooked_rotation_is_refused(tmp_path: Path, encode) -> None:
    with pytest.raises(MediaError, match=r"rotated by .*multiples of 90"):
        probe(encode(tmp_path / "a.mp4", 2, rotation=30))


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "a.mp4", 4, aspect=Fraction(3, 2))
    assert (probe(path).height, probe(path).width) == (48, 96)
    clip = read_video(path)
    assert clip.frames.shape == (3, 4, 48, 96)
    assert read_numbers(clip.frames) == [0, 1, 2, 3]
    half = read_video(path, size=(24, 48)).frames  # the same proportions: nothing is cut
    assert read_numbers(half) == [0, 1, 2, 3]


def test_slices_and_tensors_choose_frames(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    assert read_numbers(read_video(path, slice(4, None, 5)).frames) == [4, 9, 14, 19]
    assert read_numbers(read_video(path, slice(-2, None)).frames) == [18, 19]
    assert read_numbers(read_video(path, torch.tensor([3, 1])).frames) == [3, 1]


def test_frames_that_do_not_exist_are_named(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 20)
    with pytest.raises(
        IndexError, match=r"frame 20 is out of range: .*a\.mp4 has 20 frames, 0 to 19"
    ):
        read_video(path, [3, 20])
    with pytest.raises(IndexError, match="frame -1"):
        read_video(path, [-1])
    with pytest.raises(ValueError, match="no frames requested"):
        read_video(path, [])
    with pytest.raises(ValueError, match="no frames requested"):
        read_video(path, slice(20, None))
    with pytest.raises(TypeError):
        read_video(path, [1.5])


def test_wrong_options_are_named(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 2)
    with pytest.raises(ValueError, match="'auto', 'decord' or 'pyav', got 'cv2'"):
        read_video(path, backend="cv2")
    with pytest.raises(ValueError, match="'crop', 'pad' or 'refuse', got 'stretch'"):
        read_video(path, fit="stretch")
    with pytest.raises(ValueError, match="size must be"):
        read_video(path, size=(0, 4))
    with pytest.raises(ValueError, match=r"48x64 .*expected 24x24"):
        read_video(path, size=(24, 24), fit="refuse")


def test_a_file_that_changes_is_read_anew(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 5)
    assert probe(path).num_frames == 5
    assert probe(encode(path, 9)).num_frames == 9


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "plain.mp4", 3).rename(tmp_path / "clip: 1 & only.mp4")
    assert read_numbers(read_video(path).frames) == [0, 1, 2]
