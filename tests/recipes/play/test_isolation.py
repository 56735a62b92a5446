"""Whatever one visitor sends or asks for, every request is answered and no other visitor waits."""

import concurrent.futures
import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from vqvideo import media
from vqvideo.recipes.worlds.play import SessionStore, Start, uploads
from vqvideo.recipes.worlds.play import session as demo_session
from vqvideo.recipes.worlds.play.handler import Handler
from vqvideo.recipes.worlds.play.session import BusyError


def send_request(server, path, body=None, method=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


@pytest.fixture
def sessions(action_model):
    sessions = SessionStore(action_model)
    yield sessions
    sessions.close()


@pytest.fixture
def blocked(monkeypatch):
    """`blocked(name)`: replace a function of session.py by one that waits; two events of it."""
    released = []

    def block(name):
        begun, going_on = threading.Event(), threading.Event()
        original = getattr(demo_session, name)

        def wait(*given):
            begun.set()
            assert going_on.wait(20)
            return original(*given)

        monkeypatch.setattr(demo_session, name, wait)
        released.append(going_on)
        return begun, going_on

    yield block
    for going_on in released:
        going_on.set()


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("read_upload", lambda session: session.upload(b"no picture")),
        ("_encode_clip", lambda session: session.encode_clip()),
    ],
)
def test_frames_of_others_do_not_wait_for_a_slow_file(sessions, blocked, monkeypatch, name, ask):
    monkeypatch.setattr(demo_session, name, lambda *given: None)
    slow, other = sessions.open(None)[1], sessions.open(None)[1]
    begun, going_on = blocked(name)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, slow)
        begun.wait()
        start = time.perf_counter()
        for _ in range(3):
            other.step(3, 1.0)
        other.restart(None)
        assert time.perf_counter() - start < 4  # a second for each
        assert not waiting.done()
        going_on.set()
        waiting.exception()


def test_a_clip_asked_for_during_a_restart_has_the_frames_before_it(sessions, blocked, tmp_path):
    _, session = sessions.open(Start("gray", torch.zeros(3, 2, 64, 64)))
    for _ in range(3):
        session.step(3, 1.0)
    begun, going_on = blocked("_build_view")
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(session.restart, None)
        begun.wait()
        (tmp_path / "clip.mp4").write_bytes(session.encode_clip())
        going_on.set()
        restart.result()
    assert media.probe(tmp_path / "clip.mp4").num_frames == 5
    assert len(session.recorded_frames) == 1


def test_clips_and_restarts_at_once_never_fail(sessions, monkeypatch):
    monkeypatch.setattr(demo_session, "_encode_clip", lambda frames, fps: len(frames))
    _, session = sessions.open(Start("gray", torch.zeros(3, 2, 64, 64)))
    lengths, stop = [], threading.Event()

    def download():
        while not stop.is_set():
            lengths.append(session.encode_clip())

    with ThreadPoolExecutor(1) as pool:
        downloads = pool.submit(download)
        for _ in range(10):
            session.restart(session.start)
            session.step(3, 1.0)
        stop.set()
        downloads.result()
    assert set(lengths) <= {2, 3}


def test_a_second_clip_of_a_session_is_busy(sessions, blocked):
    _, session = sessions.open(None)
    begun, going_on = blocked("_encode_clip")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.encode_clip)
        begun.wait()
        with pytest.raises(BusyError):
            session.encode_clip()
        session.step(3, 1.0)
        going_on.set()
        assert first.result()


@pytest.mark.slow
def test_an_upload_is_read_in_another_process_within_a_time(
    action_model, image_file, tmp_path, monkeypatch
):
    start = uploads.read_upload(image_file.read_bytes(), action_model)
    expected = media.read_image(image_file, size=(64, 64))[:, None]
    assert torch.equal(start.frames, expected)
    monkeypatch.setattr(uploads, "TIME_LIMIT_SECONDS", 0.0)
    Image.new("1", (6000, 6000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"this file was not read within 0 s; give a smaller one"):
        uploads.read_upload((tmp_path / "large.png").read_bytes(), action_model)
    monkeypatch.setattr(uploads, "TIME_LIMIT_SECONDS", 60)
    monkeypatch.setattr(uploads, "_send_frames", _crash)
    with pytest.raises(ValueError, match=r"this file ended the process that read it"):
        uploads.read_upload(image_file.read_bytes(), action_model)


def _crash(*given):
    os._exit(1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("odd"),
        KeyError(3),
        IndexError(),
        OSError(5, "Input/output error"),
        StopIteration(),
        AssertionError(),
        concurrent.futures.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_request_is_answered_whatever_is_raised(server, monkeypatch, capsys, error):
    token = send_request(server, "/session", b"{}")[1]["session"]

    def fail(*given):
        raise error

    with monkeypatch.context() as patch:
        for name in ("step", "restart", "upload", "encode_clip"):
            patch.setattr(demo_session.Session, name, fail)
        patch.setattr(type(server), "describe_model", fail)
        paths = ("step", "restart", "upload")
        for status, answer in (
            *(send_request(server, f"/session/{token}/{path}", b"{}") for path in paths),
            send_request(server, f"/session/{token}/clip.mp4"),
            send_request(server, "/model"),
        ):
            assert status == 500
            assert type(error).__name__ in answer["error"]
    assert type(error).__name__ in capsys.readouterr().err  # with the traceback
    assert send_request(server, f"/session/{token}/step", b"{}")[0] == 200


def test_a_body_that_does_not_come_is_answered(server, monkeypatch):
    monkeypatch.setattr(Handler, "timeout", 0.2)
    host = f"127.0.0.1:{server.server_address[1]}"
    with socket.create_connection(server.server_address, timeout=20) as browser:
        head = f"POST /session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n"
        browser.sendall(head.encode() + b"{")
        answer = b"".join(iter(lambda: browser.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"no data came for 0.2 s" in answer


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("PUT / HTTP/1.1", 501),
        ("DELETE /session HTTP/1.1", 501),
        ("GET / HTTP/9.9", 505),
        ("GET", 400),
        ("GET / HTTP/x", 400),
        ("GET /" + "a" * 2**16 + " HTTP/1.1", 414),
    ],
)
def test_what_is_not_http_or_another_method_is_answered_as_json(server, line, status):
    with socket.create_connection(server.server_address, timeout=20) as browser:
        browser.sendall(f"{line}\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while chunk := browser.recv(2**16):
            answer += chunk
    assert f" {status} ".encode() in answer.split(b"\r\n")[0]
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]
