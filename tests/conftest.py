"""What several tests share: a small trained-looking model on disk, and a folder of clips."""

import os
import signal

import pytest
import torch

import vqvideo
from vqvideo import media

# Tests that run side by side (pytest -n 2) share the cores.
torch.set_num_threads(
    max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
)


# A background job of a shell ignores SIGINT; tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def isolated_cache(tmp_path_factory):
    """Where lengths of files are kept, instead of in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQVIDEO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Twelve videos of 20 frames: a bright square that moves over a gradient."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        frames = torch.linspace(-0.8, 0.2, 64).expand(3, 20, 64, 64).clone()
        for t in range(20):
            left, top = (5 * number + 2 * t) % 48, (7 * number + t) % 48
            frames[:, t, top : top + 16, left : left + 16] = 0.9
        media.write_video(folder / f"{number:02d}.mp4", frames, fps=8.0)
    return folder


@pytest.fixture(scope="session")
def small_changes():
    """Changes that make the model `video` small enough for a test."""
    nets = {"widths": (8, 12), "num_blocks": (1, 1)}
    return {
        "encoder": nets,
        "decoder": nets,
        "quantizer": {"codebook_size": 32, "code_dim": 8, "init": "data", "warmup_steps": 1},
        "prior": {"width": 16, "num_layers": 3},
    }


@pytest.fixture(scope="session")
def small_model(tmp_path_factory, small_changes):
    """The folder of a small, untrained `video` model."""
    torch.manual_seed(0)
    nets = {**small_changes["encoder"], "linear_init": False}  # so that every block does something
    generator = vqvideo.build("video", **{**small_changes, "encoder": nets, "decoder": nets})
    generator.vqvae.train().loss(torch.rand(2, 3, 16, 64, 64) * 2 - 1)
    folder = tmp_path_factory.mktemp("models") / "small"
    vqvideo.save(generator, folder)
    return folder
