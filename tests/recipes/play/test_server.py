"""What the server answers, asked as a browser asks, and as one should not."""

import base64
import http.client
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vqvideo import media
from vqvideo.recipes.worlds.play import session as demo_session
from vqvideo.recipes.worlds.play.handler import MAX_JSON_BYTES, MAX_UPLOAD_BYTES, Handler


def send_request(server, path, given=None, **headers):
    """Status and body, that of JSON parsed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    body = given if given is None or isinstance(given, bytes) else json.dumps(given)
    try:
        connection.request("GET" if given is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content
    finally:
        connection.close()


@pytest.fixture
def session_id(server):
    status, seen = send_request(server, "/session", {"start": 0})
    assert status == 200
    return seen["session"]


def test_the_page_needs_nothing_from_anywhere(server):
    status, page = send_request(server, "/")
    assert status == 200
    assert b"</html>" in page
    assert b"http" not in page.replace(b"http-equiv", b"")


def test_the_page_gets_its_settings(server, image_file):
    _, about = send_request(server, "/model")
    assert about["actions"][3] == "forward"
    assert (about["size"], about["rate"], about["stride"]) == ([64, 64], 8.75, 1)
    [start] = about["starts"]
    assert start["name"] == "door.png"
    shown = torch.frombuffer(bytearray(base64.b64decode(start["image"])), dtype=torch.uint8)
    expected = media.to_uint8(media.read_image(image_file, size=(64, 64)))
    assert torch.equal(shown.view(64, 64, 3).movedim(-1, 0), expected)


def test_a_step_brings_the_next_frame_its_codes_and_its_time(server, session_id):
    _, before = send_request(server, f"/session/{session_id}")
    status, seen = send_request(
        server, f"/session/{session_id}/step", {"action": 4, "temperature": 0.8}
    )
    assert (status, before["number"], seen["number"]) == (200, 0, 1)
    assert len(seen["frames"]) == 1
    assert seen["frames"] != before["frames"]
    assert [len(seen["codes"]), len(seen["codes"][0])] == [8, 8]
    assert 0 < seen["milliseconds"] < 5000


def test_a_reload_continues_where_it_was(server, session_id):
    for _ in range(3):
        _, seen = send_request(server, f"/session/{session_id}/step", {"action": 3})
    assert send_request(server, f"/session/{session_id}") == (200, seen)


def test_a_restart_takes_the_same_start_or_another(server, session_id):
    _, before = send_request(server, f"/session/{session_id}")
    send_request(server, f"/session/{session_id}/step", {"action": 3})
    _, again = send_request(server, f"/session/{session_id}/restart", {})
    assert (again["number"], again["frames"]) == (0, before["frames"])
    _, nothing = send_request(server, f"/session/{session_id}/restart", {"start": None})
    assert nothing["frames"] != before["frames"]


def test_an_upload_becomes_the_start(server, session_id, tmp_path):
    media.write_image(tmp_path / "gray.png", torch.zeros(3, 30, 20))
    data = (tmp_path / "gray.png").read_bytes()
    status, seen = send_request(server, f"/session/{session_id}/upload", data)
    assert status == 200
    assert set(base64.b64decode(seen["frames"][0])) == {128}
    send_request(server, f"/session/{session_id}/step", {"action": 3})
    _, again = send_request(server, f"/session/{session_id}/restart", {})
    assert again["frames"] == seen["frames"]


def test_an_upload_that_is_no_image_or_too_large_is_refused_and_the_session_continues(
    server, session_id
):
    upload = f"/session/{session_id}/upload"
    for data in (b"no picture", b"", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        status, answer = send_request(server, upload, data)
        assert status == 400
        assert "this file cannot be read as an image or a video" in answer["error"]
    status, answer = send_request(server, upload, bytes(MAX_UPLOAD_BYTES + 1))
    assert status == 413
    assert "too large: the limit is 33,554,432 bytes" in answer["error"]
    status, seen = send_request(server, f"/session/{session_id}/step", {"action": 3})
    assert (status, seen["number"]) == (200, 1)


def test_what_was_played_comes_as_an_mp4(server, session_id, tmp_path):
    for _ in range(4):
        send_request(server, f"/session/{session_id}/step", {"action": 1})
    status, clip = send_request(server, f"/session/{session_id}/clip.mp4")
    assert status == 200
    (tmp_path / "walk.mp4").write_bytes(clip)
    assert media.probe(tmp_path / "walk.mp4").num_frames == 5


@pytest.mark.parametrize(
    ("path", "given", "status", "message"),
    [
        ("step", {"action": 6}, 400, "got 6"),
        ("step", {"action": 3, "temperature": -1}, 400, "temperature must be"),
        ("step", {"action": 3, "temperature": 10**400}, 400, "too large"),
        ("step", [3], 400, "must be a JSON object, got list"),
        ("step", b"{", 400, "not JSON: Expecting"),
        ("step", b"[" * 999, 400, "not JSON"),
        ("step", bytes(1001), 413, "too large"),
        ("restart", {"start": 1}, 400, r"in \[0, 1\), got 1"),
        ("restart", {"start": "door"}, 400, r"in \[0, 1\), got 'door'"),
        ("fly", {}, 404, "/session/.*/fly does not exist"),
        ("step/extra", {"action": 3}, 404, "/session/.*/step/extra does not exist"),
        ("step//extra", {"action": 3}, 404, "step//extra does not exist"),
    ],
)
def test_a_bad_request_is_refused_and_the_session_continues(
    server, session_id, path, given, status, message
):
    answered, answer = send_request(server, f"/session/{session_id}/{path}", given)
    assert answered == status
    assert re.search(message, answer["error"])
    assert send_request(server, f"/session/{session_id}/step", {"action": 3})[1]["number"] == 1


def test_an_unknown_session_is_refused(server):
    for order in ("step", "upload"):
        status, answer = send_request(server, f"/session/guessed/{order}", bytes(MAX_JSON_BYTES))
        assert status == 404
        assert "does not exist: it expired, or vqvideo play was restarted" in answer["error"]
    assert send_request(server, "/session//step", {"action": 3})[0] == 404
    assert len(server.sessions) == 0


def test_whoever_calls_it_by_another_name_is_refused(server):
    port = server.server_address[1]
    for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert send_request(server, "/", Host=host)[0] == 403, host
        assert send_request(server, "/session", {}, Host=host)[0] == 403, host
    assert send_request(server, "/", Host=f"localhost:{port}")[0] == 200


def test_another_page_gives_no_orders(server, session_id):
    port = server.server_address[1]
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        status, answer = send_request(
            server, f"/session/{session_id}/step", {"action": 3}, Origin=origin
        )
        assert status == 403, origin
        assert "only the page at" in answer["error"]
    own = f"http://127.0.0.1:{port}"
    assert (
        send_request(server, f"/session/{session_id}/step", {"action": 3}, Origin=own)[1]["number"]
        == 1
    )


@pytest.mark.parametrize("length", [4 * MAX_JSON_BYTES + 1, 10**18, "9" * 5000])
def test_a_body_without_end_is_refused_unread_and_the_connection_closed(server, session_id, length):
    with socket.create_connection(server.server_address, timeout=20) as browser:
        host = f"127.0.0.1:{server.server_address[1]}"
        head = f"POST /session/{session_id}/step HTTP/1.1\r\nHost: {host}"
        browser.sendall(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: browser.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert b"too large: the limit is 1,000 bytes" in answer


def test_a_body_is_kept_for_nobody_who_may_not_ask(server, session_id, monkeypatch):
    monkeypatch.setattr(Handler, "_read_body", None)  # what keeps a body is not called
    for path, headers, status in (
        (f"/session/{session_id}/upload", {"Origin": "http://evil.example"}, 403),
        (f"/session/{session_id}/upload", {"Host": "evil.example"}, 403),
        ("/session/guessed/upload", {}, 404),
        ("/fly/upload", {}, 404),
    ):
        assert send_request(server, path, bytes(10**6), **headers)[0] == status


def test_uploads_are_read_one_after_the_other_and_one_of_each_visitor(
    server, session_id, monkeypatch
):
    going_on, begun = threading.Event(), threading.Semaphore(0)

    def read_upload(*given):
        begun.release()
        going_on.wait()
        raise ValueError("read at last")

    monkeypatch.setattr(demo_session, "read_upload", read_upload)
    other = send_request(server, "/session", {})[1]["session"]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send_request, server, f"/session/{session_id}/upload", b"one")
        begun.acquire()
        second = pool.submit(send_request, server, f"/session/{other}/upload", b"two")
        assert send_request(server, f"/session/{session_id}/upload", b"three")[0] == 409
        assert not begun.acquire(timeout=0.2)  # the other visitor's waits
        going_on.set()
        assert [answer.result() for answer in (first, second)] == [
            (400, {"error": "read at last"})
        ] * 2


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_hundred_requests_at_once_are_answered_or_busy_and_nothing_piles_up(server, session_id):
    with ThreadPoolExecutor(20) as pool:
        step = f"/session/{session_id}/step"
        answers = list(pool.map(lambda _: send_request(server, step, {"action": 3}), range(100)))
    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 409}
    assert send_request(server, f"/session/{session_id}")[1]["number"] == statuses.count(200) > 0


@pytest.mark.slow
def test_a_closed_tab_costs_nothing_and_says_nothing(server, session_id, capfd):
    threads = threading.active_count()
    port = server.server_address[1]
    for cut in (b"", b"\r\n{", b'\r\n{"action": 3}  '):
        with socket.create_connection(server.server_address) as browser:
            head = f"POST /session/{session_id}/step HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            browser.sendall(head.encode() + b"Content-Length: 15\r\n" + cut)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
    while threading.active_count() > threads:
        pass
    while (status := send_request(server, f"/session/{session_id}/step", {"action": 3})[0]) == 409:
        pass  # the last of them had asked for a frame
    assert status == 200
    assert capfd.readouterr().err == ""


def test_two_visitors_at_once_both_get_on(server):
    words = [send_request(server, "/session", {})[1]["session"] for _ in range(2)]

    def walked(session_id):
        return [
            send_request(server, f"/session/{session_id}/step", {"action": 3})[0] for _ in range(10)
        ]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(walked, words)) == [[200] * 10] * 2
