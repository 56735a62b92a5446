"""Bytes to floats and back, and sizes without distortion."""

from __future__ import annotations

import pytest
import torch

from vqvideo.media import from_uint8, to_uint8
from vqvideo.media.pixels import resize


def test_every_byte_comes_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    floats = from_uint8(every)
    assert (floats.dtype, floats.min(), floats.max()) == (torch.float32, -1, 1)
    assert torch.equal(to_uint8(floats), every)
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_only_bytes_are_taken_for_bytes() -> None:
    with pytest.raises(ValueError, match=r"takes uint8, got torch\.float32"):
        from_uint8(torch.zeros(3))


def make_disc(height: int, width: int, radius: int) -> torch.Tensor:
    """A white disc in the middle of a gray picture, uint8 `[1, 3, h, w]`."""
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    inside = y[:, None] ** 2 + x[None] ** 2 < radius**2
    return torch.where(inside, 255, 100).to(torch.uint8).expand(1, 3, -1, -1)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("source", [(90, 160), (160, 90), (64, 64), (31, 57)])
@pytest.mark.parametrize("target", [(64, 64), (32, 48), (101, 40)])
def test_a_disc_stays_round(fit: str, source: tuple[int, int], target: tuple[int, int]) -> None:
    picture = resize(make_disc(*source, radius=13), target, fit)[0, 0]
    assert picture.shape == target
    scales = [target[i] / source[i] for i in (0, 1)]
    scale = max(scales) if fit == "crop" else min(scales)
    bright = picture > 177
    tall, wide = bright.any(1).sum().item(), bright.any(0).sum().item()
    assert tall == pytest.approx(min(26 * scale, target[0]), abs=2 + scale)
    assert wide == pytest.approx(min(26 * scale, target[1]), abs=2 + scale)
    rows, columns = torch.where(bright)
    assert rows.float().mean() == pytest.approx((target[0] - 1) / 2, abs=1)
    assert columns.float().mean() == pytest.approx((target[1] - 1) / 2, abs=1)


def test_crop_covers_and_pad_adds_black() -> None:
    picture = torch.full((1, 3, 40, 80), 200, dtype=torch.uint8)
    assert (resize(picture, (32, 32), "crop") == 200).all()
    padded = resize(picture, (32, 32), "pad")
    assert (padded[:, :, 8:24] == 200).all()
    assert (padded[:, :, :8] == 0).all()
    assert (padded[:, :, 24:] == 0).all()


def test_crop_of_the_right_scale_only_cuts() -> None:
    picture = torch.randint(256, (2, 3, 20, 33), dtype=torch.uint8)
    assert torch.equal(resize(picture, (20, 21), "crop"), picture[..., 6:27])
    assert torch.equal(resize(picture, (20, 33), "refuse"), picture)


def test_refuse_names_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"image is 20x33 .*expected 20x32; choose fit='crop'"):
        resize(torch.zeros(1, 3, 20, 33, dtype=torch.uint8), (20, 32), "refuse")


def test_making_smaller_averages_instead_of_skipping() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    small = resize(stripes, (16, 16)).float()
    assert (small - 127.5).abs().max() < 12


def test_an_image_alone_and_in_a_batch_are_resized_alike() -> None:
    pictures = torch.randint(256, (5, 3, 33, 47), dtype=torch.uint8)
    together = resize(pictures, (16, 20))
    for n in range(5):
        assert torch.equal(resize(pictures[n : n + 1], (16, 20))[0], together[n])
