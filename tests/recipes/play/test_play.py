"""The command: where it listens, what it begins with, how it ends, what it refuses."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import torch

from vqvideo import media
from vqvideo.cli import main


@pytest.fixture
def opened_servers(monkeypatch):
    """The server that the command would run, instead of running it."""
    servers = []

    def serve(server, on_ready, *, open_browser):
        on_ready(server.address)
        server.server_close()
        servers.append((server, open_browser))

    monkeypatch.setattr("vqvideo.recipes.worlds.play.serve", serve)
    return servers


def play_to_the_end(address):
    def ask(path):
        with urllib.request.urlopen(address + path, data=b"{}") as answer:
            return json.load(answer)

    with contextlib.suppress(OSError, http.client.HTTPException):
        word = ask("session")["session"]
        while True:
            ask(f"session/{word}/step")


@pytest.mark.slow
def test_it_runs_until_it_is_interrupted_and_ends_cleanly(action_model_folder):
    command = [sys.executable, "-m", "vqvideo", "play", "--model", str(action_model_folder)]
    with subprocess.Popen(
        [*command, "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        # Of a shell's background job SIGINT is ignored, and so it would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address) as answer:
                assert b"</html>" in answer.read()
            walkers = [threading.Thread(target=play_to_the_end, args=(address,)) for _ in range(3)]
            for walker in walkers:
                walker.start()
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()  # else a failure would wait for it without end
    for walker in walkers:
        walker.join()


def test_a_port_in_use_is_one_line_that_names_the_option(server, action_model_folder, capsys):
    port = str(server.server_address[1])
    assert main(["play", "--model", str(action_model_folder), "--port", port, "--no-browser"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    message = f"port {port} is in use; choose another with --port, 0 for any free one"
    assert printed.err == f"vqvideo: {message}\n"


def test_a_port_that_is_none_is_refused(action_model_folder, capsys):
    assert main(["play", "--model", str(action_model_folder), "--port", "70000"]) == 1
    assert "--port must be in 0..65535, got 70000" in capsys.readouterr().err


def test_images_beside_the_weights_are_offered(
    action_model_folder, image_file, tmp_path, opened_servers
):
    folder = shutil.copytree(action_model_folder, tmp_path / "model")
    for number in (2, 1):
        shutil.copy(image_file, folder / f"start_{number}.png")
    assert main(["play", "--model", str(folder), "--port", "0"]) == 0
    [(server, browser)] = opened_servers
    assert [start.name for start in server.starts] == ["start_1.png", "start_2.png"]
    assert browser


def test_files_that_are_named_are_offered_instead(
    action_model_folder, image_file, opened_servers, capsys
):
    arguments = ["play", "--model", str(action_model_folder), "--port", "0", "--no-browser"]
    assert main([*arguments, "--start", str(image_file), str(image_file), "--json"]) == 0
    [(server, browser)] = opened_servers
    assert [start.name for start in server.starts] == ["door.png"] * 2
    assert not browser
    assert capsys.readouterr().out == f'{{"address": "{server.address}"}}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vidoe"], "did you mean 'video'?"),
        (["--model", "image"], "play needs a model of RGB video"),
        (["--start", "none.png"], "none.png does not exist"),
        (["--start", __file__], "test_play.py cannot be read as an image or a video"),
    ],
)
def test_what_cannot_be_played_is_one_line(action_model_folder, arguments, message, capsys):
    model = [] if "--model" in arguments else ["--model", str(action_model_folder)]
    assert main(["play", *model, *arguments, "--port", "0", "--no-browser"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.full(8, 6), "cannot start from door.mp4: actions must be integers in [0, 6)"),
        (np.zeros((8, 2)), "cannot start from door.mp4: actions must have shape [1, 8]"),
        (np.full(8, np.nan), "door.actions.npy"),
        (np.full((8, 2), np.nan), "door.actions.npy"),
    ],
)
def test_a_start_whose_actions_the_model_does_not_have_is_refused_before_anything_is_served(
    action_model_folder, tmp_path, actions, message, opened_servers, capsys
):
    media.write_video(tmp_path / "door.mp4", torch.zeros(3, 8, 64, 64), fps=8)
    np.save(tmp_path / "door.actions.npy", actions)
    start = ["--start", str(tmp_path / "door.mp4")]
    assert main(["play", "--model", str(action_model_folder), "--port", "0", *start]) == 1
    assert opened_servers == []
    assert message in capsys.readouterr().err
