"""How many files of the package a reader goes through to follow one call."""

import sys
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.data.clips import ClipDataset

PACKAGE = Path(vqvideo.__file__).parent


def list_files(call):
    """The files of the package of which `call` runs a function, in order."""
    found = {}

    def note(frame, event, argument):
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            found[str(Path(frame.f_code.co_filename).relative_to(PACKAGE))] = None

    call()  # imports and compiles
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(found)


@pytest.mark.parametrize("method", ["auto", "cached"])
def test_a_clip_is_sampled_through_at_most_22_files(small_model, method):
    generator = vqvideo.load(small_model)
    files = list_files(lambda: generator.sample(shape=(8, 16, 16), method=method))
    assert 5 <= len(files) <= 22, files


def test_a_path_becomes_a_tensor_through_at_most_10_files(clips, tmp_path):
    media.write_image(tmp_path / "a.png", torch.zeros(3, 8, 8))
    media.write_audio(tmp_path / "a.wav", torch.zeros(1, 1600), 16000)
    video = min(clips.iterdir())
    dataset = ClipDataset(clips, (4, 64, 64))
    for read in (
        lambda: media.read_video(video),
        lambda: media.read_image(tmp_path / "a.png"),
        lambda: media.read_audio(tmp_path / "a.wav"),
        lambda: dataset[0],
    ):
        files = list_files(read)
        assert 1 <= len(files) <= 10, files
