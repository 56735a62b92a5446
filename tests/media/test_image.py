"""Still images and contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo.media import (
    MediaError,
    from_uint8,
    read_image,
    write_audio,
    write_contact_sheet,
    write_image,
)


def make_noise(*shape: int) -> torch.Tensor:
    return from_uint8(torch.randint(256, shape, dtype=torch.uint8, generator=torch.manual_seed(0)))


def test_png_gives_every_pixel_back(tmp_path: Path) -> None:
    image = make_noise(3, 17, 23)
    write_image(tmp_path / "a.png", image)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == torch.float32
    assert torch.equal(read, image)
    assert read_image(tmp_path / "a.png", size=(8, 12)).shape == (3, 8, 12)


def test_jpeg_is_near(tmp_path: Path) -> None:
    image = torch.linspace(-1, 1, 48).expand(3, 32, 48)
    write_image(tmp_path / "a.jpg", image)
    assert (read_image(tmp_path / "a.jpg") - image).abs().max() < 0.05


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_rgb(mode: str, tmp_path: Path) -> None:
    values = np.linspace(0, 255, 20).round().astype(np.uint8)[None].repeat(12, 0)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(values).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (3, 12, 20)
    if mode != "1":  # which is dithered
        expected = torch.from_numpy(values).float() / 127.5 - 1
        assert (read - expected).abs().max() < 0.02
    assert (read[0] == read[1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_laid_on_white(mode: str, tmp_path: Path) -> None:
    """Under it a file may hold any colour; people see the page."""
    if mode == "P":
        image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(tmp_path / "a.png", transparency=0)
        expected = [[255, 255, 255], [255, 0, 0]]
    else:
        gray, alpha = [0, 100], [0, 128]
        pixels = [
            [g] * (3 if mode == "RGBA" else 1) + [a] for g, a in zip(gray, alpha, strict=True)
        ]
        Image.fromarray(np.array([pixels], np.uint8), mode=None).save(tmp_path / "a.png")
        half = round(100 * 128 / 255 + 255 * 127 / 255)
        expected = [[255] * 3, [half] * 3]
    read = read_image(tmp_path / "a.png")
    found = ((read + 1) * 127.5).round().int()[:, 0].T.tolist()
    assert all(
        abs(a - b) <= 1
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_an_image_of_real_numbers_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match=r"a\.tif has floating-point values"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("values", "said"), [((0, 65536), "0 to 65536"), ((-1, 9), "-1 to 9")])
def test_integers_of_more_than_16_bits_are_refused(values, said, tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match=rf"a\.tif has integers from {said}.*scale its values"):
        read_image(tmp_path / "a.tif")


def test_32_bit_integers_that_fit_into_16_are_read_as_those(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.int32)).save(tmp_path / "a.tif")
    expected = from_uint8(torch.tensor([0, 100, 255], dtype=torch.uint8))
    assert torch.equal(read_image(tmp_path / "a.tif"), expected.expand(3, 1, 3))


def test_a_transparent_value_of_16_bits_is_laid_on_white(tmp_path: Path) -> None:
    gray = np.array([[0, 257 * 100, 257 * 100 + 1, 65535]], np.uint16)
    Image.fromarray(gray).save(tmp_path / "a.png", transparency=257 * 100)
    expected = from_uint8(torch.tensor([0, 255, 100, 255], dtype=torch.uint8))
    assert torch.equal(read_image(tmp_path / "a.png"), expected.expand(3, 1, 4))


def test_of_an_animation_the_first_frame_is_the_image(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    for name in ("a.png", "a.webp", "a.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        read = read_image(tmp_path / name)
        assert read.mean(dim=(1, 2)).round().tolist() == [1, -1, -1]


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (3, 16, 8)
    assert (read[:, :8] == 1).all()
    assert (read[:, 8:] == -1).all()


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    write_audio(tmp_path / "sound.wav", torch.zeros(1, 9), 8000)
    write_image(tmp_path / "whole.png", make_noise(3, 40, 40))
    write_image(tmp_path / "whole.jpg", make_noise(3, 40, 40))
    for kind in ("png", "jpg"):
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        (tmp_path / f"cut.{kind}").write_bytes(whole[:1500])
    expected = {
        ".": "is a folder",
        "empty.png": r"empty\.png is empty",
        "text.png": r"text\.png is not an image; convert it",
        "sound.wav": r"sound\.wav is not an image",
        "cut.png": r"cut\.png is truncated",
        "cut.jpg": r"cut\.jpg is damaged",
    }
    for name, message in expected.items():
        with pytest.raises(MediaError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match=r"whole\.png: image is 40x40 .*expected 20x20"):
        read_image(tmp_path / "whole.png", size=(20, 20), fit="refuse")


def test_images_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    broken = make_noise(3, 6, 5)
    broken[2, 4, 0] = torch.nan
    for bad, message in (
        (broken, "row 4 contains NaN"),
        (make_noise(1, 6, 5), r"must be \[3, h, w\] and not empty, got \[1, 6, 5\]"),
        (make_noise(3, 0, 5), r"got \[3, 0, 5\]"),
    ):
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / "a.png", bad)
    with pytest.raises(ValueError, match=r"must end in \.png or \.jpg or \.jpeg, got '\.bmp'"):
        write_image(tmp_path / "a.bmp", make_noise(3, 6, 5))
    write_image(tmp_path / "a.png", make_noise(3, 6, 5))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_image(tmp_path / "a.png", make_noise(3, 6, 5))
    write_image(tmp_path / "a.png", make_noise(3, 7, 5), overwrite=True)
    assert read_image(tmp_path / "a.png").shape == (3, 7, 5)


def test_contact_sheet_shows_every_frame_in_its_place(tmp_path: Path) -> None:
    clips = make_noise(2, 3, 5, 6, 8)
    write_contact_sheet(tmp_path / "a.png", clips, columns=3, scale=2)
    sheet = read_image(tmp_path / "a.png")
    assert sheet.shape == (3, 4 * 12 + 3 * 2, 3 * 16 + 2 * 2)
    covered = torch.zeros(sheet.shape[1:], dtype=torch.bool)
    for n in range(2):
        for t in range(5):
            top, left = (2 * n + t // 3) * 14, t % 3 * 18
            for y in range(12):
                for x in range(16):
                    assert torch.equal(sheet[:, top + y, left + x], clips[n, :, t, y // 2, x // 2])
            covered[top : top + 12, left : left + 16] = True
    assert (sheet[:, ~covered] == 1).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 4, 64, 64), (128, 4 * 128 + 6)),
        ((3, 3, 20, 200, 160), (6 * 200 + 10, 16 * 160 + 30)),
        ((1, 3, 1, 32, 48), (128, 192)),
    ],
)
def test_small_frames_are_enlarged_and_long_clips_wrapped(shape, expected, tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "a.png", torch.zeros(shape))
    assert read_image(tmp_path / "a.png").shape[1:] == expected


def test_contact_sheets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"must be \[n, 3, t, h, w\] and not empty, got \[3, 4, 8, 8\]"
    ):
        write_contact_sheet(tmp_path / "a.png", make_noise(3, 4, 8, 8))
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        write_contact_sheet(tmp_path / "a.png", make_noise(1, 3, 4, 8, 8), columns=0)
    with pytest.raises(ValueError, match="clip 1 contains NaN"):
        write_contact_sheet(
            tmp_path / "a.png",
            torch.tensor([0, torch.nan]).view(2, 1, 1, 1, 1) + make_noise(2, 3, 2, 4, 4),
        )
    with pytest.raises(ValueError, match=r"must end in \.png"):
        write_contact_sheet(tmp_path / "a.gif", make_noise(1, 3, 4, 8, 8))
