"""What a walk may begin with, and what is said of other files."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import vqvideo
from vqvideo import media
from vqvideo.recipes.worlds.play import read_start


def write_recording(file, number):
    frames = torch.linspace(-1, 1, number)[:, None, None].expand(3, number, 48, 80)
    media.write_video(file, frames, fps=8)
    return file


def test_an_image_is_cropped_to_the_size_of_the_model(action_model, image_file):
    start = read_start(image_file, action_model)
    assert (start.name, start.frames.shape) == ("door.png", (3, 1, 64, 64))
    assert torch.equal(start.frames[:, 0], media.read_image(image_file, size=(64, 64)))


def test_an_image_is_repeated_for_one_code_frame(small_model, image_file):
    assert read_start(image_file, vqvideo.load(small_model)).frames.shape == (3, 4, 64, 64)


def test_a_video_gives_its_first_frames(action_model, tmp_path):
    start = read_start(write_recording(tmp_path / "walk.mp4", 20), action_model)
    assert start.frames.shape == (3, 8, 64, 64)
    assert start.actions is None
    short = read_start(write_recording(tmp_path / "short.mp4", 3), action_model)
    assert short.frames.shape == (3, 3, 64, 64)


def test_a_recording_brings_its_actions(action_model, tmp_path):
    file = write_recording(tmp_path / "episode.mp4", 12)
    np.save(file.with_suffix(".actions.npy"), np.arange(11, dtype=np.int8) % 6)
    assert read_start(file, action_model).actions.tolist() == [0, 0, 1, 2, 3, 4, 5, 0]


def test_a_file_that_is_neither_image_nor_video_is_named(action_model, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt cannot be read as an image or a video"):
        read_start(file, action_model)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_start(tmp_path / "none.png", action_model)


def write_large_png(file, side):
    """A PNG that says it is so large, with next to nothing in it."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    return file


@pytest.mark.parametrize("side", [6325, 13000, 20000])  # above the limit, and both of Pillow's
def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(action_model, tmp_path, side):
    file = write_large_png(tmp_path / "large.png", side)
    with pytest.raises(ValueError, match=r"large\.png has more than 40,000,000 pixels per fr"):
        read_start(file, action_model)
    with pytest.raises(ValueError, match="cannot be read"):  # all that is wrong with this one
        read_start(write_large_png(tmp_path / "small.png", 6324), action_model)


def test_a_video_of_too_many_pixels_is_refused_and_not_read(action_model, tmp_path, monkeypatch):
    file = write_recording(tmp_path / "walk.mp4", 3)
    monkeypatch.setattr("vqvideo.recipes.worlds.play.starts.MAX_PIXELS", 48 * 80)
    assert read_start(file, action_model).frames.shape == (3, 3, 64, 64)
    monkeypatch.setattr("vqvideo.recipes.worlds.play.starts.MAX_PIXELS", 48 * 80 - 1)
    monkeypatch.setattr(media, "read_video", None)
    with pytest.raises(ValueError, match=r"walk\.mp4 has more than 3,839 pixels"):
        read_start(file, action_model)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_an_animated_image_is_a_video(action_model, tmp_path, suffix):
    shades = [Image.new("RGB", (80, 48), (80 * i,) * 3) for i in range(4)]
    moves, still = tmp_path / f"moves{suffix}", tmp_path / f"still{suffix}"
    shades[0].save(moves, save_all=True, append_images=shades[1:], duration=100)
    shades[2].save(still)
    frames = read_start(moves, action_model).frames
    assert frames.shape == (3, 4, 64, 64)
    assert frames.mean((0, 2, 3)).tolist() == pytest.approx([-1, -0.37, 0.25, 0.88], abs=0.02)
    assert read_start(still, action_model).frames.shape == (3, 1, 64, 64)


def test_a_video_shorter_than_a_code_frame_is_refused(small_model, tmp_path):
    file = write_recording(tmp_path / "short.mp4", 3)
    with pytest.raises(ValueError, match=r"this model needs at least 4 frames"):
        read_start(file, vqvideo.load(small_model))
