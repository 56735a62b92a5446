"""What a small file may ask for: pictures of odd shapes, too many pixels, large metadata."""

from __future__ import annotations

import errno
import resource
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, PngImagePlugin

from vqvideo.media import MediaError, from_uint8, probe, read_image, read_video, to_uint8
from vqvideo.media import image as image_module
from vqvideo.media.pixels import crop_then_scale, resize

GRAY, RGB, PALETTE = 0, 2, 3  # color types of PNG


def forge_png(
    path: Path,
    width: int,
    height: int,
    color: int = RGB,
    bits: int = 8,
    rows: bytes | None = None,
    before: tuple[tuple[bytes, bytes], ...] = (),
    after: tuple[tuple[bytes, bytes], ...] = (),
) -> Path:
    """A PNG of zeros, or of `rows`, with further chunks before and after the pixels."""
    row = 1 + -(-width * bits * (3 if color == RGB else 1) // 8)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)),
        *before,
        (b"IDAT", zlib.compress(bytes(row * height) if rows is None else rows, 9)),
        *after,
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(
    ("length", "height", "size"),
    [(400, 8, (32, 48)), (401, 8, (32, 48)), (1000, 64, (16, 24)), (70_000, 3, (5, 4))],
)
def test_a_long_picture_is_cropped_at_its_center(
    length: int, height: int, size: tuple[int, int], upright: bool
) -> None:
    """On a ramp, the value of a pixel of the result says from where in the source it comes."""
    slope = 255 / (2 * height * size[1] / size[0])  # steep: the crop spans half of all values
    ramp = np.clip(127.5 + slope * (np.arange(length) + 0.5 - length / 2), 0, 255)
    image = torch.from_numpy(ramp.round().astype(np.uint8)).expand(1, 3, height, length)
    scale = size[0] / height
    expected = 127.5 + slope / scale * (torch.arange(size[1]) + 0.5 - size[1] / 2)
    if upright:
        image, size = image.transpose(2, 3), size[::-1]
    row = resize(image, size)[0, 0]
    row = row.T if upright else row
    assert (row.float() - expected).abs().max() < 1.5


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (2, 300_000), (30_000, 8)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_pictures_of_odd_shapes_keep_their_brightness(shape: tuple[int, int], fit: str) -> None:
    image = torch.full((2, 3, *shape), 200, dtype=torch.uint8)
    small = resize(image, (24, 40), fit)
    assert small.shape == (2, 3, 24, 40)
    if fit == "crop":
        assert (small == 200).all()
    else:  # one line at least
        values = small.unique().tolist()
        assert values == [0, 200]
        assert 24 <= int((small[0, 0] == 200).sum()) <= 80


@pytest.mark.parametrize("shape", [(40, 30), (31, 90), (64, 64)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_cropping_first_gives_nearly_the_values_of_scaling_first(
    shape: tuple[int, int], fit: str
) -> None:
    noise = torch.randint(256, (3, *shape), generator=torch.manual_seed(0), dtype=torch.uint8)
    smooth = resize(resize(noise[None], (6, 8), "crop"), shape, "crop")
    first = crop_then_scale(smooth[0], shape, (20, 24), fit)
    assert (first.int() - resize(smooth, (20, 24), fit)[0].int()).abs().float().mean() < 3


def test_a_picture_of_some_hundred_bytes_takes_no_gigabytes(tmp_path: Path) -> None:
    for path in (
        forge_png(tmp_path / "long.png", 60_000, 1),
        forge_png(tmp_path / "upright.png", 1, 60_000),
    ):
        assert path.stat().st_size < 1000
        for fit in ("crop", "pad"):
            image = read_image(path, size=(64, 64), fit=fit)
            assert (image == -1).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 * 2**20  # KiB


GROWTH = """
import resource, sys, torch
from vqvideo.media import read_image
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
path, fit = sys.argv[1:]
before = peak()
read_image(path, size=(64, 64), fit=fit)
print(peak() - before)
"""


@pytest.mark.slow
def test_the_largest_pictures_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    paths = [
        forge_png(tmp_path / "gray.png", 9459, 9459, GRAY, 1),
        forge_png(tmp_path / "key.png", 9459, 9459, before=((b"tRNS", bytes(6)),)),
        forge_png(tmp_path / "long.png", 40_000_000, 1),
        forge_png(tmp_path / "upright.png", 1, 40_000_000, GRAY),
    ]
    for path, fit in zip(paths, ("crop", "pad", "crop", "pad"), strict=True):
        command = [sys.executable, "-c", GROWTH, str(path), fit]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert float(done.stdout) < 900, (path.name, done.stdout)


@pytest.mark.parametrize("color", [GRAY, RGB, PALETTE])
@pytest.mark.parametrize("side", [9460, 14_000, 100_000])  # also beyond the limits of Pillow
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(
    color: int, side: int, tmp_path: Path
) -> None:
    palette = ((b"PLTE", bytes(6)),) if color == PALETTE else ()
    path = forge_png(tmp_path / "a.png", side, side, color, rows=b"", before=palette)
    with pytest.raises(MediaError, match=r"a\.png has .*pixels.*; resize it"):
        read_image(path, size=(64, 64))


def test_a_frame_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, encode, monkeypatch
) -> None:
    path = encode(tmp_path / "a.mp4", 2)
    for module in ("pixels", "video_packets"):
        monkeypatch.setattr(f"vqvideo.media.{module}.MAX_PIXELS", 48 * 64 - 1)
    for read in (probe, read_video):
        with pytest.raises(MediaError, match=r"a\.mp4 has more than 3,071 pixels per frame"):
            read(path)


@pytest.mark.parametrize("aspect", [Fraction(1, 30), Fraction(40), Fraction(1900)])
def test_pixels_of_any_shape_are_read_into_a_size(aspect: Fraction, tmp_path: Path, encode) -> None:
    """FFmpeg takes any aspect ratio up to the number of rows."""
    stored = (2000 if aspect > 1000 else 48, 32)
    path = encode(tmp_path / "a.mp4", 2, size=stored, aspect=aspect)
    for fit in ("crop", "pad"):
        assert read_video(path, size=(24, 40), fit=fit).frames.shape == (3, 2, 24, 40)
    if aspect > 1000:  # 60,800 columns
        with pytest.raises(MediaError, match=r"a\.mp4 has more than 89,478,485 pixels per frame"):
            read_video(path)
    else:
        assert read_video(path).frames.shape == (3, 2, 48, max(1, round(32 * aspect)))


@pytest.mark.parametrize("shape", [(4000, 9), (9, 4000), (1, 9000)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_videos_of_odd_shapes_are_read(shape, fit: str, tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mkv", 2, codec="ffv1", pix_fmt="gray", size=shape)
    frames = read_video(path, size=(16, 24), fit=fit).frames
    if fit == "pad":  # one line, which swscale computes from a few pixels only
        assert 16 <= int((frames[0, 0] > -1).sum()) <= 2 * 24
        return
    expected = resize(to_uint8(read_video(path).frames).transpose(0, 1), (16, 24), fit)
    assert (frames - from_uint8(expected).transpose(0, 1)).abs().max() < 0.05


def compress_text(keyword: bytes, size: int) -> bytes:
    return keyword + b"\0\0" + zlib.compress(bytes(range(256)) * (size // 256))


LARGE = {
    "profile": ("iCCP", "before"),
    "text": ("zTXt", "before"),
    "text at the end": ("zTXt", "after"),
}


@pytest.mark.parametrize("name", LARGE)
def test_pictures_with_large_profiles_and_texts_are_read(name: str, tmp_path: Path) -> None:
    kind, place = LARGE[name]
    chunk = (kind.encode(), compress_text(b"Comment", 2 * PngImagePlugin.MAX_TEXT_CHUNK))
    exif = Image.Exif()
    exif[0x0112] = 6
    orientation = (b"eXIf", exif.tobytes()[6:])
    rows = b"\0" + bytes(range(24))
    chunks = {"before": (orientation,), "after": ()}
    chunks[place] += (chunk,)
    path = forge_png(tmp_path / "a.png", 8, 1, rows=rows, **chunks)
    expected = torch.arange(24, dtype=torch.uint8).view(8, 1, 3).permute(2, 0, 1)
    assert torch.equal(to_uint8(read_image(path)), expected)  # upright too


def test_many_texts_that_are_too_large_together_are_left_out(tmp_path: Path) -> None:
    chunk = (b"zTXt", compress_text(b"Comment", PngImagePlugin.MAX_TEXT_CHUNK - 2**10))
    assert read_image(forge_png(tmp_path / "a.png", 5, 4, before=(chunk,) * 70)).shape == (3, 4, 5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_value_of_any_depth_is_laid_on_white(bits: int, tmp_path: Path) -> None:
    values = list(range(2**bits))
    packed = int("".join(f"{value:0{bits}b}" for value in values), 2)
    num_bytes = -(-len(values) * bits // 8)
    row = (packed << 8 * num_bytes - len(values) * bits).to_bytes(num_bytes, "big")
    for key in {0, 1, len(values) // 3, len(values) - 1}:
        path = forge_png(
            tmp_path / f"{bits}_{key}.png",
            len(values),
            1,
            GRAY,
            bits,
            b"\0" + row,
            before=((b"tRNS", struct.pack(">H", key)),),
        )
        expected = [255 if value == key else round(255 * value / values[-1]) for value in values]
        assert to_uint8(read_image(path))[0, 0].tolist() == expected


def test_a_transparent_color_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = forge_png(tmp_path / "a.png", 2, 1, RGB, 16, before=((b"tRNS", bytes(6)),))
    with pytest.raises(MediaError, match=r"a\.png has a transparent color of 16 bits"):
        read_image(path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to decode frame"),
        struct.error("unpack requires a buffer"),
        ValueError("odd"),
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        Image.DecompressionBombError("Image size"),
        ZeroDivisionError(),
        OverflowError(),
        KeyError(7),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", ["open", "load"])
def test_whatever_a_decoder_raises_names_the_file(
    error: Exception, place: str, tmp_path: Path, monkeypatch
) -> None:
    def fail(*args, **options):
        raise error

    path = forge_png(tmp_path / "a.png", 2, 2)
    monkeypatch.setattr(
        *((Image, "open") if place == "open" else (ImageFile.ImageFile, "load")), fail
    )
    with pytest.raises(MediaError, match=r"a\.png .+; \w+"):
        read_image(path)


def test_a_file_that_vanishes_or_an_interrupt_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch
) -> None:
    path = forge_png(tmp_path / "a.png", 2, 2)
    for error in (FileNotFoundError(errno.ENOENT, "gone"), KeyboardInterrupt()):

        def fail(*args, error=error):
            raise error

        monkeypatch.setattr(image_module, "check_complete", fail)
        with pytest.raises(type(error)):
            read_image(path)


def test_a_program_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(MediaError, match=r"a\.png is a PostScript program"):
        read_image(path)
