"""GIF and WebP: as long as they should be, and shown in any viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo.media import probe, read_video, to_uint8, write_gif, write_webp


def make_gradient(num_frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Smooth colours that move: `[3, t, h, w]` in [-1, 1], different along every axis."""
    t, y, x = (torch.linspace(-1, 1, n) for n in (num_frames, height, width))
    red = (y[:, None] + x[None]).expand(num_frames, -1, -1) / 2
    green = (t[:, None, None] + x[None, None]).expand(-1, height, -1) / 2
    blue = (t[:, None, None] - y[None, :, None]).expand(-1, -1, width) / 2
    return torch.stack([red, green, blue])


def read_animation(path: Path) -> tuple[torch.Tensor, list[int]]:
    """What Pillow shows, uint8 `[3, t, h, w]`, and for how many milliseconds each."""
    pictures, durations = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
            pictures.append(torch.from_numpy(np.array(image.convert("RGB"))))
    return torch.stack(pictures).permute(3, 0, 1, 2), durations


def test_gif_repeats_for_ever_and_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    frames = make_gradient(13)
    write_gif(tmp_path / "a.gif", frames, 8.75)
    pictures, durations = read_animation(tmp_path / "a.gif")
    assert (pictures.int() - to_uint8(frames).int()).abs().float().mean() < 10
    assert sum(durations) == pytest.approx(1000 * 13 / 8.75, abs=5)
    assert read_video(tmp_path / "a.gif").frames.shape == frames.shape


def test_equal_gif_frames_become_one_that_lasts_longer(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", make_gradient(3)[:, [0, 1, 1, 1, 2]], 10)
    assert probe(tmp_path / "a.gif").pts_seconds == pytest.approx((0, 0.1, 0.4))


def test_webp_is_near_or_exact_and_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    frames = make_gradient(13)
    for quality, bound in ((None, 0), (95, 40)):
        write_webp(tmp_path / "a.webp", frames, 8.75, quality=quality, overwrite=True)
        pictures, durations = read_animation(tmp_path / "a.webp")
        assert (pictures.int() - to_uint8(frames).int()).abs().max() <= bound
        assert sum(durations) == pytest.approx(1000 * 13 / 8.75, abs=1)


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 1000 frames per second, got 1200"):
        write_webp(tmp_path / "a.webp", make_gradient(2), 1200)
    with pytest.raises(ValueError, match=r"quality must lie in 0\.\.100, .* got 101"):
        write_webp(tmp_path / "a.webp", make_gradient(2), 10, quality=101)
    with pytest.raises(ValueError, match="at most 100 frames per second, got 120"):
        write_gif(tmp_path / "a.gif", make_gradient(2), 120)
    assert list(tmp_path.iterdir()) == []
