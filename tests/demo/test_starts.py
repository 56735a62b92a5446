"""What a walk may begin with, and what is said of other files."""

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.demo import read_start


def recorded(file, number):
    frames = torch.linspace(-1, 1, number)[:, None, None].expand(3, number, 48, 80)
    media.write_video(file, frames, fps=8)
    return file


def test_a_picture_is_cropped_to_the_size_of_the_model(walkable, picture):
    start = read_start(picture, walkable)
    assert (start.name, start.frames.shape) == ("door.png", (3, 1, 64, 64))
    assert torch.equal(start.frames[:, 0], media.read_image(picture, size=(64, 64)))


def test_a_picture_stands_still_for_one_code_frame(small_model, picture):
    assert read_start(picture, vqvideo.load(small_model)).frames.shape == (3, 4, 64, 64)


def test_a_video_gives_its_first_frames(walkable, tmp_path):
    start = read_start(recorded(tmp_path / "walk.mp4", 20), walkable)
    assert start.frames.shape == (3, 8, 64, 64)
    assert start.actions is None
    short = read_start(recorded(tmp_path / "short.mp4", 3), walkable)
    assert short.frames.shape == (3, 3, 64, 64)


def test_a_recording_brings_its_actions(walkable, tmp_path):
    file = recorded(tmp_path / "episode.mp4", 12)
    np.save(file.with_suffix(".actions.npy"), np.arange(11, dtype=np.int8) % 6)
    assert read_start(file, walkable).actions.tolist() == [0, 0, 1, 2, 3, 4, 5, 0]


def test_a_file_that_is_neither_picture_nor_video_is_named(walkable, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt cannot be read as a picture or a video"):
        read_start(file, walkable)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_start(tmp_path / "none.png", walkable)


def test_a_picture_that_would_fill_the_memory_is_refused(walkable, picture, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"door\.png has too many pixels"):
        read_start(picture, walkable)


def test_a_video_shorter_than_a_code_frame_is_refused(small_model, tmp_path):
    file = recorded(tmp_path / "short.mp4", 3)
    with pytest.raises(ValueError, match=r"goes on from 4 frames at least"):
        read_start(file, vqvideo.load(small_model))
