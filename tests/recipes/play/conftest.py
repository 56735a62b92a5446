"""A small untrained model with the six actions of the maze, and a server of it."""

import threading
from contextlib import contextmanager

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.play import Server, read_start


def build_model(**prior):
    torch.manual_seed(0)
    nets = {"widths": (8, 8, 12), "num_blocks": (0, 0, 1), "linear_init": False}
    generator = vqvideo.build(
        "video",
        strides=[[1, 2, 2]] * 3,
        encoder=nets,
        decoder=nets,
        quantizer={"codebook_size": 32, "code_dim": 8, "init": "data", "warmup_steps": 1},
        prior={"width": 16, "num_layers": 3, **prior},
    )
    generator.vqvae.train().loss(torch.rand(2, 3, 16, 64, 64) * 2 - 1)
    with torch.no_grad():  # untrained, it would hardly look at what was before, nor at actions
        for name, weight in generator.prior.named_parameters():
            if ".time" in name or "head.out" in name:
                weight.mul_(5)
    return generator.eval()


@pytest.fixture(scope="session")
def action_model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "walkable"
    vqvideo.save(build_model(cond={"num_actions": 6, "action_names": ACTIONS}), folder)
    return folder


@pytest.fixture(scope="session")
def action_model(action_model_folder):
    return vqvideo.load(action_model_folder)


@pytest.fixture(scope="session")
def image_file(tmp_path_factory):
    """A file of another size than the model's."""
    file = tmp_path_factory.mktemp("pictures") / "door.png"
    media.write_image(file, torch.linspace(-1, 1, 100).expand(3, 80, 100))
    return file


@contextmanager
def run_server(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(action_model, image_file):
    with run_server(
        Server(action_model, "action_model", [read_start(image_file, action_model)], port=0)
    ) as server:
        yield server


@pytest.fixture
def make_server():
    """A server of a model that knows other actions, from nothing."""
    return lambda names: run_server(
        Server(
            build_model(cond={"num_actions": len(names), "action_names": names}), "other", port=0
        )
    )
